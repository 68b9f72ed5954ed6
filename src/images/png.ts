/**
 * Decodes PNG files (https://www.w3.org/TR/png-3/). The pixels are the same on every platform and equal those of
 * TensorFlow's `decode_png(channels=3)`: alpha is dropped, 16 bits are cut to the upper 8, grey becomes three equal
 * channels.
 */
import {type ImageOrientation} from './choices';
import {exifOrientation, placementOf} from './orientation';
import {checkImageSize, type Pixels} from './pixels';
import {damaged, type Header, RowReader, sizeOfRows} from './png_rows';

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
export const isPng = (bytes: Uint8Array): boolean => SIGNATURE.every((byte, i) => bytes[i] === byte);

/** Allowed bits per sample, by colour type. */
const DEPTHS: Readonly<Record<number, readonly number[]>> = {
  0: [1, 2, 4, 8, 16],
  2: [8, 16],
  3: [1, 2, 4, 8],
  4: [8, 16],
  6: [8, 16],
};
/** No data shrinks more than this by deflate, which needs at least two bits for 258 bytes. */
const MAX_RATIO = 1032;

/**
 * Decodes a PNG file.
 *
 * @throws ValueError if the bytes are not a PNG image, are damaged, or have more pixels than `MAX_IMAGE_PIXELS`.
 */
export async function decodePng(bytes: Uint8Array, imageOrientation: ImageOrientation = 'from-image'): Promise<Pixels> {
  const {header, palette, exif, data} = readChunks(bytes);
  const {width, height} = header;
  checkImageSize(width, height);
  // Checked before memory is allocated for the pixels.
  if (sizeOfRows(header) > MAX_RATIO * data.reduce((sum, {length}) => sum + length, 0)) return incomplete();
  const orientation = exif && imageOrientation === 'from-image' ? exifOrientation(exif) : 1;
  const placement = placementOf(orientation, width, height);
  const reader = new RowReader(header, palette, placement);
  await inflate(data, reader);
  return {height: placement.height, width: placement.width, channels: 3, values: reader.values};
}

const incomplete = () => damaged('a file with fewer pixels than its header says');

interface Chunks {
  header: Header;
  palette: Uint8Array;
  /** EXIF metadata. */
  exif: DataView | undefined;
  /** Compressed rows. */
  data: Uint8Array[];
}

function readChunks(bytes: Uint8Array): Chunks {
  const view = viewOf(bytes);
  const data: Uint8Array[] = [];
  let header: Header | undefined;
  let palette: Uint8Array = new Uint8Array(0);
  let exif: DataView | undefined;
  let complete = false;
  for (let at = SIGNATURE.length, ended = false; !ended;) {
    if (at + 12 > bytes.length) damaged('a file that ends too early');
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + length > bytes.length) damaged('a file that ends too early');
    const body = bytes.subarray(at + 8, at + 8 + length);
    const intact = () => crc32(bytes.subarray(at + 4, at + 8 + length)) === view.getUint32(at + 8 + length);
    // The type of ancillary chunks, such as text, starts with a lower-case letter. They do not change the pixels.
    const ancillary = (bytes[at + 4]! & 32) > 0;
    if (!ancillary && !intact()) damaged('a file with a wrong checksum');
    if (!header && (type !== 'IHDR' || length !== 13)) damaged('a file without a header');
    if (type === 'IHDR') {
      if (header) damaged('a file with several headers');
      header = readHeader(viewOf(body));
    } else if (type === 'PLTE') {
      if (palette.length > 0 || data.length > 0) damaged('a file with a palette in the wrong place');
      palette = body;
    } else if (type === 'IDAT') {
      // As in libpng, the first other chunk ends the pixels.
      if (!complete) data.push(body);
    } else if (type === 'IEND') ended = true;
    else if (type === 'eXIf' && data.length === 0 && !exif && intact()) exif = viewOf(body);
    else if (!ancillary) damaged(`a file with an unknown part, ${JSON.stringify(type)}`);
    complete ||= data.length > 0 && type !== 'IDAT';
    at += 12 + length;
  }
  return {header: header!, palette, exif, data};
}

const viewOf = ({buffer, byteOffset, byteLength}: Uint8Array) => new DataView(buffer, byteOffset, byteLength);

function readHeader(view: DataView): Header {
  const [width, height, depth, colour] = [view.getUint32(0), view.getUint32(4), view.getUint8(8), view.getUint8(9)];
  const fits = width > 0 && height > 0 && DEPTHS[colour]?.includes(depth) && view.getUint8(12) <= 1;
  if (!fits) damaged(`${width} x ${height} pixels of colour type ${colour} with ${depth} bits`);
  const methods = view.getUint16(10);
  if (methods !== 0) damaged(`a file with compression and filter methods ${methods >> 8} and ${methods & 255}`);
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

/** Decompresses until the image is complete, so that longer data does not cost time or memory. */
async function inflate(data: readonly Uint8Array[], rows: RowReader): Promise<void> {
  const stream = new Blob([...data] as BlobPart[]).stream().pipeThrough(new DecompressionStream('deflate'));
  const reader = stream.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  const read = () =>
    reader.read().catch((error: unknown) => {
      return damaged(`a file with unreadable compressed data, ${(error as Error).message}`);
    });
  try {
    while (!rows.done) {
      const {done, value} = await read();
      if (done) return incomplete();
      rows.write(value);
    }
  } finally {
    // The stream may have failed already.
    await reader.cancel().catch(() => undefined);
  }
}
