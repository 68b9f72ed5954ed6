/** The files of a preset in a folder on disk. */
import {lstat, readdir} from 'node:fs/promises';
import {join} from 'node:path';
import {unless} from './disk';

/** The folder of a commit that is not finished. It contains one folder, named by the commit's id. */
export const PENDING = '.gemma3-commit';

/** How deep files of a preset can be: `assets/tokenizer/vocabulary.spm`. Deeper files do not belong to it. */
const DEPTH = 3;

/** Whether a name in a preset's folder belongs to a save. */
export const isInternal = (name: string): boolean => name === PENDING || name.startsWith('.saving-');

/** Paths of files and links in a folder, relative to it. Links to folders are not followed. */
export async function filesInPlace(root: string): Promise<string[]> {
  const paths: string[] = [];
  const walk = async (inside: string, depth: number) => {
    const entries = await readdir(join(root, inside), {withFileTypes: true}).catch(unless('ENOENT', 'EACCES'));
    for (const entry of entries ?? []) {
      const path = inside ? `${inside}/${entry.name}` : entry.name;
      if (isInternal(path)) continue;
      if (!entry.isDirectory()) paths.push(path);
      else if (depth < DEPTH && !entry.name.startsWith('.')) await walk(path, depth + 1);
    }
  };
  await walk('', 1);
  return paths;
}

/** Whether everything between `root` and a file is a real folder: a link may lead to foreign files. */
export async function isReached(root: string, path: string): Promise<boolean> {
  let folder = root;
  for (const part of path.split('/').slice(0, -1)) {
    folder = join(folder, part);
    if (!(await lstat(folder).catch(unless('ENOENT', 'ENOTDIR')))?.isDirectory()) return false;
  }
  return true;
}
