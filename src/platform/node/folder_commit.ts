/**
 * Replaces the files of a folder so that a process may be killed at any moment. The new files are moved into
 * `.gemma3-commit` with a single rename, together with a list of what to do. From then on the folder counts as changed:
 * every reader uses the new files, and moves the remaining ones into place.
 *
 * All steps can be repeated, also by several processes at once. Each commit has its own id, which is part of every path
 * that is renamed from or to, so that a late process cannot touch the next commit.
 */
import {lstat, mkdir, readdir, readFile, rename, rm, rmdir} from 'node:fs/promises';
import {dirname, join, sep} from 'node:path';
import {ValueError} from '../../base/errors';
import {isObject} from '../../base/json';
import {codeOf, requireWritable, unless} from './disk';
import {isInternal, isReached, PENDING} from './folder_files';
import {stagingName, syncFolder} from './staging';

const JOURNAL = 'journal.json';

/** What a commit does, with paths relative to the folder. */
export interface Journal {
  /** Files that are moved into place. */
  files: string[];
  /** Files that are removed. */
  obsolete: string[];
}

export const journalIn = (commit: string): string => join(commit, JOURNAL);
export const filesIn = (commit: string): string => join(commit, 'files');
/** Receives the files that are removed. */
export const oldIn = (commit: string): string => join(commit, 'old');

// A journal may come with a preset from elsewhere. It must not reach files outside the folder.
const isInside = (path: unknown): path is string =>
  typeof path === 'string' &&
  (sep === '/' || !path.includes(sep)) &&
  path.split('/').every(part => part !== '' && part !== '.' && part !== '..') &&
  !isInternal(path.split('/')[0]!);

function parseJournal(text: string, path: string): Journal {
  try {
    const journal: unknown = JSON.parse(text);
    if (isObject(journal)) {
      const {files, obsolete} = journal;
      if (Array.isArray(files) && Array.isArray(obsolete) && [...files, ...obsolete].every(isInside)) {
        return {files, obsolete} as Journal;
      }
    }
  } catch {
    // Reported below.
  }
  throw new ValueError(
    `Expected the list of files of an unfinished save in "${path}". Received other contents. The file is damaged: ` +
      'fetch the preset again, or save it again after removing the folder of that file.',
  );
}

/**
 * Creates the folder of `path` in a preset, if it does not exist.
 *
 * @throws ValueError if a file or a link is in its place, a folder in the place of the file, or the folder is read-only
 * or on another disk.
 */
export async function prepareTarget(root: string, path: string): Promise<void> {
  const parts = path.split('/');
  const {dev} = await lstat(root);
  let full = root;
  for (const [i, part] of parts.entries()) {
    full = join(full, part);
    const found = await lstat(full).catch(unless('ENOENT'));
    const isFile = i === parts.length - 1;
    if (isFile) await requireWritable(dirname(full));
    if (found?.isDirectory() && found.dev !== dev) {
      throw new ValueError(
        `Expected all files of a preset on one disk. Received: "${full}", which is on another disk than "${root}". ` +
          'Save to another folder.',
      );
    }
    if (isFile ? !found?.isDirectory() : found?.isDirectory()) continue;
    if (!found) await mkdir(full).catch(unless('EEXIST'));
    else {
      const kind = found.isDirectory() ? 'a folder' : found.isSymbolicLink() ? 'a link' : 'a file';
      throw new ValueError(
        `Expected ${isFile ? 'a file or nothing' : 'a folder or nothing'} at "${full}", to save "${path}". ` +
          `Received: ${kind}. Remove it, or save to another folder.`,
      );
    }
  }
}

/** Removes a folder inside a preset, and its parents there, if they are empty. */
async function removeEmpty(root: string, path: string): Promise<void> {
  for (let folder = path; folder !== '.'; folder = dirname(folder)) {
    const removed = await rmdir(join(root, folder)).then(
      () => true,
      unless('ENOENT', 'ENOTEMPTY', 'EEXIST', 'EPERM', 'EBUSY'),
    );
    if (!removed) return;
  }
}

/** A commit whose files are not all in place. */
export class PendingCommit {
  private readonly staged: ReadonlySet<string>;
  private readonly removed: ReadonlySet<string>;

  private constructor(
    private readonly folder: string,
    private readonly id: string,
    journal: Journal,
  ) {
    this.staged = new Set(journal.files);
    this.removed = new Set(journal.obsolete);
  }

  /** @throws ValueError if the list of files is damaged. */
  static async find(folder: string): Promise<PendingCommit | undefined> {
    const pending = join(folder, PENDING);
    for (const id of (await readdir(pending).catch(unless('ENOENT', 'ENOTDIR'))) ?? []) {
      const path = journalIn(join(pending, id));
      // Missing if another process has finished the commit in the meantime.
      const text = await readFile(path, 'utf8').catch(unless('ENOENT', 'ENOTDIR'));
      if (text !== undefined) return new PendingCommit(folder, id, parseJournal(text, path));
    }
    return undefined;
  }

  /** The path from which to read a file: the first of these at which it exists. */
  places(path: string): string[] {
    if (this.removed.has(path)) return [];
    const inPlace = join(this.folder, path);
    return this.staged.has(path) ? [join(filesIn(this.commit), path), inPlace] : [inPlace];
  }

  /**
   * Moves all files into place.
   *
   * @throws I/O errors. The commit can be finished later.
   */
  async finish(): Promise<void> {
    const {folder, commit} = this;
    const changed = new Set([folder]);
    for (const path of this.staged) {
      const from = join(filesIn(commit), path);
      if (!(await lstat(from).catch(unless('ENOENT')))) continue;
      await prepareTarget(folder, path);
      const to = join(folder, path);
      await rename(from, to).catch(unless('ENOENT'));
      changed.add(dirname(to));
    }
    for (const path of this.removed) {
      if (!(await isReached(folder, path))) continue;
      await rename(join(folder, path), join(oldIn(commit), path.replaceAll('/', '_'))).catch(unless('ENOENT'));
      await removeEmpty(folder, dirname(path));
    }
    for (const path of changed) await syncFolder(path);
    const remains = join(folder, stagingName());
    // With its new name it is no longer a commit, even if removing it is interrupted.
    await rename(commit, remains).catch(unless('ENOENT'));
    await rmdir(join(folder, PENDING)).catch(unless('ENOENT', 'ENOTEMPTY', 'EEXIST'));
    await rm(remains, {recursive: true, force: true});
  }

  private get commit(): string {
    return join(this.folder, PENDING, this.id);
  }
}

/**
 * Finishes the commit of a killed process.
 *
 * @throws I/O errors; ValueError if the list of files is damaged.
 */
export async function finishPending(folder: string): Promise<void> {
  const commit = await PendingCommit.find(folder);
  if (commit) return commit.finish();
  const pending = join(folder, PENDING);
  // A process may have been killed after the last step but one.
  if (await lstat(pending).catch(unless('ENOENT'))) await rmdir(pending).catch(unless('ENOENT', 'ENOTEMPTY', 'EEXIST'));
}

/** The error for a folder that is in the way of every commit. */
export const blocked = (folder: string): ValueError =>
  new ValueError(
    `Expected "${join(folder, PENDING)}" to contain an unfinished save. Received other contents, or the saves of other ` +
      'processes again and again. Remove that folder if nothing else is saving, and try again.',
  );

/**
 * Makes a folder the pending commit. This is the moment in which the old preset becomes the new one.
 *
 * @param staging contains one folder, which is named by the commit's id and has a journal and files.
 * @returns false if another commit is pending.
 */
export async function publish(staging: string, folder: string): Promise<boolean> {
  const pending = join(folder, PENDING);
  try {
    await rename(staging, pending);
  } catch (error) {
    if (['ENOTEMPTY', 'EEXIST'].includes(codeOf(error))) return false;
    // Windows reports an existing folder as a lack of permission.
    if (codeOf(error) === 'EPERM' && (await PendingCommit.find(folder))) return false;
    throw error;
  }
  await syncFolder(folder);
  return true;
}
