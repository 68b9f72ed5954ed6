import {readFile} from 'node:fs/promises';
import {ValueError} from '../../base/errors';

/**
 * The bytes of an image.
 *
 * @throws ValueError unless there is such a file.
 */
export async function readImageFile(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    const {code, message} = error as NodeJS.ErrnoException;
    const reasons: Record<string, string> = {
      ENOENT: 'there is none',
      EISDIR: 'it is a folder',
      EACCES: 'no permission',
    };
    throw new ValueError(
      `Expected a file of an image at "${path}". Received: ${reasons[code ?? ''] ?? message}. Check the path.`,
    );
  }
}

/** Node draws nothing. */
export function drawnPixels(_image: object): ImageData | undefined {
  return undefined;
}
