/** Paths as users pass them: of the file system, or as `file:` addresses. */
import {resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {ValueError} from '../../base/errors';

/**
 * The absolute path of a path or a `file:` address.
 *
 * @throws ValueError on a `file:` address that is not the address of a local file.
 */
export function localPath(path: string): string {
  if (!/^file:/i.test(path)) return resolve(path);
  try {
    // Without "/" it would be relative to nothing: `new URL` reads "file:x" as "/x".
    if (/^file:\//i.test(path)) return fileURLToPath(path);
  } catch {
    // Another host, or an encoded slash: refused below.
  }
  throw new ValueError(
    `Expected a path, or a file address such as "file:///home/me/x". Received: "${path}", which is not the address ` +
      'of a file on this machine. `pathToFileURL` of node:url makes one from a path.',
  );
}
