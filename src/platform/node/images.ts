/** Images in Node: files only. */
import {readFile} from 'node:fs/promises';
import {ValueError} from '../../base/errors';
import {type Images} from '../contract';

export async function readImageFile(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    const {code, message} = error as NodeJS.ErrnoException;
    const reasons: Record<string, string> = {
      ENOENT: 'no such file',
      EISDIR: 'a folder',
      EACCES: 'no permission',
    };
    throw new ValueError(
      `Expected an image file at "${path}". Received: ${reasons[code ?? ''] ?? message}. Check the path.`,
    );
  }
}

/** Always undefined: Node has no image elements or canvases. */
export function drawnPixels(_image: object): ImageData | undefined {
  return undefined;
}

void ({readImageFile, drawnPixels} satisfies Images);
