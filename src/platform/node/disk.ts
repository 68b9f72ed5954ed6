/** Common to all disk access: the paths that users pass, and errors that name the file and the reason. */
import {access, constants, lstat, stat} from 'node:fs/promises';
import {type Stats} from 'node:fs';
import {ValueError} from '../../base/errors';
import {localPath} from './paths';

/** The code of an error of Node, such as `ENOENT`. Empty for other errors. */
export const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

/** Ignores errors with these codes. */
export const unless =
  (...codes: string[]) =>
  (error: unknown): undefined => {
    if (!codes.includes(codeOf(error))) throw error;
  };

const NO_PERMISSION = 'Change the permissions, or choose another location.';
const FULL = 'Free space there, or choose another location.';

/** Advice for errors that a user can fix. */
const ADVICE: Record<string, string> = {
  EACCES: NO_PERMISSION,
  EPERM: NO_PERMISSION,
  ERR_ACCESS_DENIED: "Under Node's permission model, start it with --allow-fs-read or --allow-fs-write for this path.",
  EROFS: 'The file system is read-only. Choose another location.',
  ENOSPC: FULL,
  EDQUOT: FULL,
  EBUSY: 'It is in use, or a mount point. Close what uses it, or mount its parent folder instead.',
  EMFILE: 'Close files that are not needed.',
};

/** The error for a path that cannot be used, with Node's error as its `cause`. */
export function diskError(expected: string, path: string, error: unknown, otherwise = 'Check the path.'): ValueError {
  const {message} = error as Error;
  const advice = ADVICE[codeOf(error)] ?? otherwise;
  return new ValueError(`Expected ${expected}. Received: "${path}": ${message}. ${advice}`, {cause: error});
}

/**
 * Runs something that writes the file or folder at `path`.
 *
 * @throws ValueError that names it, for example where the disk is full; errors that are not Node's are passed on
 * unchanged.
 */
export async function writing<T>(what: 'file' | 'folder', path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (codeOf(error) === '') throw error;
    throw diskError(`a ${what} that can be written`, path, error, 'Choose another location.');
  }
}

/**
 * The absolute path that a path or `file:` address means.
 *
 * @throws ValueError for an address of another computer, and for a relative path in a folder that was removed.
 */
export function pathOf(given: string): string {
  try {
    return localPath(given);
  } catch (error) {
    if (error instanceof ValueError) throw error;
    throw diskError('a path on this computer', given, error, 'If the current folder was removed, leave it.');
  }
}

/**
 * What is at a path, following links; undefined if there is nothing.
 *
 * @throws ValueError if that cannot be determined, or a link is broken.
 */
export async function lookAt(path: string): Promise<Stats | undefined> {
  try {
    const found = await stat(path).catch(unless('ENOENT', 'ENOTDIR'));
    if (found) return found;
    if (!(await lstat(path).catch(unless('ENOENT', 'ENOTDIR')))) return undefined;
  } catch (error) {
    throw diskError('a path that can be read', path, error);
  }
  throw new ValueError(
    `Expected a file, a folder or nothing. Received: "${path}", a broken link. Remove it, ` + 'or create its target.',
  );
}

/** @throws ValueError if entries of the folder cannot be replaced. */
export async function requireWritable(folder: string): Promise<void> {
  await access(folder, constants.W_OK | constants.X_OK).catch((error: unknown) => {
    throw diskError('a folder that can be written', folder, error);
  });
}
