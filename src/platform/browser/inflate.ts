/** Unpacks zlib data with web streams. */
import {type Inflate} from '../contract';

export async function inflateBase64(text: string): Promise<ArrayBuffer> {
  const bytes = Uint8Array.from(atob(text), char => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Response(stream).arrayBuffer();
}

void ({inflateBase64} satisfies Inflate);
