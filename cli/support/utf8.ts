/** Text from files and standard input. Bytes that are not UTF-8 would otherwise silently become U+FFFD. */
import {addAbortSignal} from 'node:stream';
import {buffer} from 'node:stream/consumers';
import {type Io} from './io';

/**
 * Decodes UTF-8, without a byte order mark.
 *
 * @param where names the text in errors.
 * @throws Error for bytes in another encoding.
 */
export function decodeUtf8(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder('utf-8', {fatal: true}).decode(bytes);
  } catch {
    throw new Error(`Expected text in UTF-8 in ${where}. Received: bytes in another encoding. Convert it to UTF-8.`);
  }
}

/** @throws Error for bytes in another encoding; the signal's reason when interrupted. */
export async function readStdin(io: Io): Promise<string> {
  return decodeUtf8(await buffer(addAbortSignal(io.signal, io.stdin)), 'standard input');
}
