/** Removes files from a browser's folder. Loaded when a preset has been saved. */

async function entriesOf(directory: FileSystemDirectoryHandle): Promise<[string, FileSystemHandle][]> {
  const entries: [string, FileSystemHandle][] = [];
  // TypeScript's DOM library lacks `entries`, which all browsers with directory handles have.
  const listed = directory as unknown as {entries(): AsyncIterable<[string, FileSystemHandle]>};
  for await (const entry of listed.entries()) entries.push(entry);
  return entries;
}

/**
 * Folders in which files of a preset are: `assets/tokenizer/vocabulary.spm`. Deeper files do not belong to the preset.
 */
const DEPTH = 3;

/** Removes files, and folders that are then empty. Returns whether `folder` itself is empty. */
export async function removeFiles(
  folder: FileSystemDirectoryHandle,
  isRemoved: (path: string) => boolean,
  inside = '',
  depth = 1,
): Promise<boolean> {
  const entries = await entriesOf(folder);
  let kept = entries.length;
  for (const [name, handle] of entries) {
    const path = inside + name;
    const isGone =
      handle.kind === 'file'
        ? isRemoved(path)
        : depth < DEPTH && (await removeFiles(handle as FileSystemDirectoryHandle, isRemoved, `${path}/`, depth + 1));
    if (!isGone) continue;
    await folder.removeEntry(name);
    kept--;
  }
  return kept === 0 && entries.length > 0;
}
