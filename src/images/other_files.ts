/** Files that browsers and sharp decode: WebP, GIF and AVIF. Their kind and size are read here, from their first bytes. */
import {type OtherImage} from '../platform/contract';

/** A file that is neither PNG nor JPEG. */
export interface OtherFile extends OtherImage {
  /** Size of the largest picture in the file, as far as it is known. */
  readonly width: number;
  readonly height: number;
}

const textAt = (bytes: Uint8Array, at: number, length: number) =>
  String.fromCharCode(...bytes.subarray(at, at + length));

/** Brands that AVIF files name in their first box: of an image and of a sequence. */
const AVIF_BRANDS = ['avif', 'avis'];

/** The kind and size of a file; undefined for other kinds. */
export function otherFile(bytes: Uint8Array): OtherFile | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [format, size] = /^GIF8[79]a$/.test(textAt(bytes, 0, 6))
    ? (['GIF', gifSize(view)] as const)
    : textAt(bytes, 0, 4) === 'RIFF' && textAt(bytes, 8, 4) === 'WEBP'
      ? (['WebP', webpSize(bytes, view)] as const)
      : isAvif(bytes, view)
        ? (['AVIF', avifSize(bytes, view)] as const)
        : [];
  return format && {format, type: `image/${format.toLowerCase()}`, ...(size ?? {width: 0, height: 0})};
}

interface Size {
  width: number;
  height: number;
}

const gifSize = (view: DataView): Size | undefined =>
  view.byteLength >= 10 ? {width: view.getUint16(6, true), height: view.getUint16(8, true)} : undefined;

/** In the header of the whole file, or of its only picture: lossy or lossless. */
function webpSize(bytes: Uint8Array, view: DataView): Size | undefined {
  if (view.byteLength < 30) return undefined;
  const kind = textAt(bytes, 12, 4);
  const side = (at: number) => view.getUint16(at, true) & 0x3fff;
  if (kind === 'VP8 ') return {width: side(26), height: side(28)};
  if (kind === 'VP8L') {
    const bits = view.getUint32(21, true);
    return {width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1};
  }
  const wide = (at: number) => view.getUint16(at, true) + 65536 * bytes[at + 2]! + 1;
  return kind === 'VP8X' ? {width: wide(24), height: wide(27)} : undefined;
}

function isAvif(bytes: Uint8Array, view: DataView): boolean {
  if (bytes.length < 16 || textAt(bytes, 4, 4) !== 'ftyp') return false;
  // The main brand, its version, then all brands.
  const brands = textAt(bytes, 8, Math.min(view.getUint32(0), 256) - 8).match(/.{4}/gs) ?? [];
  return brands.some((brand, i) => i !== 1 && AVIF_BRANDS.includes(brand));
}

/** The largest of the sizes in the boxes "ispe", which come before the pixels. */
function avifSize(bytes: Uint8Array, view: DataView): Size | undefined {
  let largest: Size | undefined;
  const limit = Math.min(bytes.length - 16, 65536);
  for (let at = 0; at < limit; at++) {
    if (bytes[at] !== 0x69 || textAt(bytes, at, 4) !== 'ispe') continue;
    const size = {width: view.getUint32(at + 8), height: view.getUint32(at + 12)};
    if (!largest || size.width * size.height > largest.width * largest.height) largest = size;
  }
  return largest;
}
