/** Unpacks zlib data with Node's own zlib: the first use of web streams takes longer than the work. */
import {inflateSync} from 'node:zlib';
import {type Inflate} from '../contract';

export async function inflateBase64(text: string): Promise<ArrayBuffer> {
  const {buffer, byteOffset, byteLength} = inflateSync(Buffer.from(text, 'base64'));
  return (buffer as ArrayBuffer).slice(byteOffset, byteOffset + byteLength);
}

void ({inflateBase64} satisfies Inflate);
