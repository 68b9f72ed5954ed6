/**
 * Decodes PNG files (https://www.w3.org/TR/png-3/). The pixels are the same on every platform and equal those of
 * TensorFlow's `decode_png(channels=3)`: alpha is dropped, 16 bits are cut to the upper 8, grey becomes three equal
 * channels.
 */
import {concatBytes} from '../base/concat_bytes';
import {ValueError} from '../base/errors';
import {type Pixels} from './pixels';

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
export const isPng = (bytes: Uint8Array): boolean => SIGNATURE.every((byte, i) => bytes[i] === byte);

/** Samples per pixel, by colour type. */
const SAMPLES: Readonly<Record<number, number>> = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4};
/** Allowed bits per sample, by colour type. */
const DEPTHS: Readonly<Record<number, readonly number[]>> = {
  0: [1, 2, 4, 8, 16],
  2: [8, 16],
  3: [1, 2, 4, 8],
  4: [8, 16],
  6: [8, 16],
};
const PALETTE = 3;

/** The pixels of each pass of an interlaced image: first column and row, and the steps between columns and rows. */
const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;
const WHOLE = [[0, 0, 1, 1]] as const;

interface Header {
  width: number;
  height: number;
  depth: number;
  colour: number;
  interlaced: boolean;
}

const damaged = (received: string): never => {
  throw new ValueError(`Expected a whole PNG image. Received: ${received}. The file is damaged; fetch it again.`);
};

/** @throws ValueError if the bytes are not a PNG image, or are damaged. */
export async function decodePng(bytes: Uint8Array): Promise<Pixels> {
  const {header, palette, data} = readChunks(bytes);
  const {width, height, depth, colour} = header;
  const bits = depth * SAMPLES[colour]!;
  const passes = (header.interlaced ? ADAM7 : WHOLE)
    .map(([x, y, dx, dy]) => ({x, y, dx, dy, columns: Math.ceil((width - x) / dx), rows: Math.ceil((height - y) / dy)}))
    .filter(({columns, rows}) => columns > 0 && rows > 0);
  const rowBytes = (columns: number) => Math.ceil((columns * bits) / 8);
  const size = passes.reduce((sum, {columns, rows}) => sum + rows * (1 + rowBytes(columns)), 0);
  const raw = await inflate(data, size);
  const values = new Uint8Array(width * height * 3);
  let at = 0;
  for (const {x, y, dx, dy, columns, rows} of passes) {
    const length = rowBytes(columns);
    let above: Uint8Array = new Uint8Array(length);
    for (let row = 0; row < rows; row++, at += 1 + length) {
      const line = raw.subarray(at + 1, at + 1 + length);
      unfilter(raw[at]!, line, above, Math.max(1, bits >> 3));
      const to = ((y + row * dy) * width + x) * 3;
      expand(line, columns, header, palette, values, to, dx * 3);
      above = line;
    }
  }
  return {height, width, channels: 3, values};
}

function readChunks(bytes: Uint8Array): {header: Header; palette: Uint8Array; data: Uint8Array[]} {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const data: Uint8Array[] = [];
  let header: Header | undefined;
  let palette: Uint8Array = new Uint8Array(0);
  for (let at = SIGNATURE.length, ended = false; !ended;) {
    if (at + 12 > bytes.length) damaged('a file that ends too early');
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + length > bytes.length) damaged('a file that ends too early');
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (crc32(bytes.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length))
      damaged('a file with a wrong checksum');
    if (!header && (type !== 'IHDR' || length !== 13)) damaged('a file without a header');
    if (type === 'IHDR') header = readHeader(new DataView(body.buffer, body.byteOffset, length));
    else if (type === 'PLTE') palette = body.slice();
    else if (type === 'IDAT') data.push(body);
    else if (type === 'IEND') ended = true;
    at += 12 + length;
  }
  return {header: header!, palette, data};
}

function readHeader(view: DataView): Header {
  const [width, height, depth, colour] = [view.getUint32(0), view.getUint32(4), view.getUint8(8), view.getUint8(9)];
  const fits = width > 0 && height > 0 && DEPTHS[colour]?.includes(depth) && view.getUint8(12) <= 1;
  if (!fits) damaged(`${width} x ${height} pixels of colour type ${colour} with ${depth} bits`);
  return {width, height, depth, colour, interlaced: view.getUint8(12) === 1};
}

const CRC_TABLE = Uint32Array.from({length: 256}, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** The checksum of each chunk of a file. */
export function crc32(bytes: Uint8Array): number {
  let sum = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) sum = CRC_TABLE[(sum ^ bytes[i]!) & 255]! ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** Decompresses data of known size. Longer data is refused before it fills the memory. */
async function inflate(data: readonly Uint8Array[], size: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    const stream = new Blob([...data] as BlobPart[]).stream().pipeThrough(new DecompressionStream('deflate'));
    const reader = stream.getReader() as ReadableStreamDefaultReader<Uint8Array>;
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      parts.push(next.value);
      length += next.value.length;
      if (length > size) {
        await reader.cancel();
        break;
      }
    }
  } catch (error) {
    return damaged(`a file with unreadable compressed data, ${(error as Error).message}`);
  }
  if (length !== size) damaged(`a file with ${length > size ? 'more' : 'fewer'} pixels than its header says`);
  return concatBytes(parts);
}

/** Undoes the filter of a row, in place. `step` is the distance in bytes to the pixel on the left. */
function unfilter(filter: number, line: Uint8Array, above: Uint8Array, step: number): void {
  const {length} = line;
  if (filter === 1) {
    for (let i = step; i < length; i++) line[i] = line[i]! + line[i - step]!;
  } else if (filter === 2) {
    for (let i = 0; i < length; i++) line[i] = line[i]! + above[i]!;
  } else if (filter === 3) {
    for (let i = 0; i < length; i++) line[i] = line[i]! + (((i < step ? 0 : line[i - step]!) + above[i]!) >> 1);
  } else if (filter === 4) {
    for (let i = 0; i < Math.min(step, length); i++) line[i] = line[i]! + above[i]!;
    for (let i = step; i < length; i++) line[i] = line[i]! + paeth(line[i - step]!, above[i]!, above[i - step]!);
  } else if (filter !== 0) damaged(`a file with filter ${filter}`);
}

/** Whichever of the three is nearest to left + up - corner. */
function paeth(left: number, up: number, corner: number): number {
  const toLeft = Math.abs(up - corner);
  const toUp = Math.abs(left - corner);
  const toCorner = Math.abs(left + up - 2 * corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

/** Writes a row as red, green and blue, each pixel `step` values after the previous one. */
function expand(
  line: Uint8Array,
  columns: number,
  {depth, colour}: Header,
  palette: Uint8Array,
  values: Uint8Array,
  to: number,
  step: number,
): void {
  const samples = SAMPLES[colour]!;
  // Grey has one sample for all three channels.
  const [green, blue] = samples < 3 ? [0, 0] : [1, 2];
  if (depth === 8 && colour !== PALETTE) {
    for (let from = 0; from < columns * samples; from += samples, to += step) {
      values[to] = line[from]!;
      values[to + 1] = line[from + green]!;
      values[to + 2] = line[from + blue]!;
    }
    return;
  }
  const highest = 2 ** Math.min(depth, 8) - 1;
  const sample = (i: number): number => {
    if (depth === 8) return line[i]!;
    if (depth === 16) return line[2 * i]!;
    const bit = i * depth;
    return (line[bit >> 3]! >> (8 - depth - (bit & 7))) & highest;
  };
  for (let column = 0; column < columns; column++, to += step) {
    const first = column * samples;
    if (colour === PALETTE) {
      const entry = sample(first) * 3;
      if (entry >= palette.length) damaged('a file with colours outside its palette');
      values.set(palette.subarray(entry, entry + 3), to);
    } else {
      [0, green, blue].forEach((offset, channel) => {
        const value = sample(first + offset);
        values[to + channel] = depth < 8 ? (value * 255) / highest : value;
      });
    }
  }
}
