/** Browsers have no paths. */
import {type FileSink, type PresetSink} from '../../base/byte_sink';
import {type ByteSource, type PresetSource} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {type Files} from '../contract';

export const canReadFolders = false;

/** @throws ValueError always. */
export async function openFile(path: string): Promise<ByteSource> {
  throw new ValueError(
    `Expected an http(s) address, bytes, or a file that the user chose: browsers have no paths. Received: "${path}".`,
  );
}

/** Never a folder. */
export async function openFolder(_path: string): Promise<PresetSource | undefined> {
  return undefined;
}

/** @throws ValueError always. */
export async function fileSink(path: string): Promise<FileSink> {
  throw new ValueError(
    'Expected a FileSystemFileHandle, a MemoryFile or another ByteSink to save into: browsers have no paths. ' +
      `Received: "${path}".`,
  );
}

/** @throws ValueError always. */
export async function folderSink(path: string): Promise<PresetSink> {
  throw new ValueError(
    `Expected a FileSystemDirectoryHandle or a PresetSink to save into: browsers have no paths. Received: "${path}".`,
  );
}

export const splitPath = (path: string) => ({folder: path, name: path.slice(path.lastIndexOf('/') + 1)});

/** The address of this script where the package's own files are served: `import.meta.url` is something else in bundles. */
const SERVED = /^(https?:\/\/.*)\/dist\/(?:browser\/platform\/browser|page)\/[^/]+\.js(?:[?#].*)?$/;

/**
 * The address of a packaged preset, next to the package's scripts. It is built from strings because bundlers copy the
 * files that they find in `new URL(…, import.meta.url)`.
 */
export async function packagedPreset(name: string): Promise<string | undefined> {
  const [, root] = SERVED.exec(import.meta.url ?? '') ?? [];
  return root === undefined ? undefined : `${root}/presets/${name}`;
}

void ({canReadFolders, openFile, openFolder, fileSink, folderSink, splitPath, packagedPreset} satisfies Files);
