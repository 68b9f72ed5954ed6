/**
 * The orientation of image files. Cameras store pixels as their sensor saw them, and note in the EXIF metadata how to
 * rotate them (CIPA DC-008, tag 0x0112). It is read as Chromium reads it, so a file looks the same as on a page.
 */

const ORIENTATION = 0x0112;
/** The tag that points to a second table of entries. */
const EXIF_TABLE = 0x8769;
const SHORT = 3;
const LONG = 4;
/** Bytes of an entry: tag, type, number of values, value. */
const ENTRY = 12;

/**
 * The orientation in EXIF metadata, which starts with its byte order: 1 (as stored) to 8. Never throws: damaged
 * metadata and unknown values are 1, as in browsers.
 */
export function exifOrientation(exif: DataView): number {
  if (exif.byteLength < 8) return 1;
  const order = exif.getUint16(0);
  const littleEndian = order === 0x4949;
  if ((!littleEndian && order !== 0x4d4d) || exif.getUint16(2, littleEndian) !== 42) return 1;
  return orientationIn(exif, exif.getUint32(4, littleEndian), littleEndian, true) ?? 1;
}

/** The first valid orientation in a table of entries. A truncated table is read as far as it goes. */
function orientationIn(exif: DataView, at: number, littleEndian: boolean, nested: boolean): number | undefined {
  if (at + 2 > exif.byteLength) return undefined;
  const count = exif.getUint16(at, littleEndian);
  const end = Math.min(at + 2 + count * ENTRY, exif.byteLength);
  for (let entry = at + 2; entry + ENTRY <= end; entry += ENTRY) {
    const tag = exif.getUint16(entry, littleEndian);
    const type = exif.getUint16(entry + 2, littleEndian);
    if (exif.getUint32(entry + 4, littleEndian) !== 1) continue;
    if (tag === ORIENTATION && type === SHORT) {
      const value = exif.getUint16(entry + 8, littleEndian);
      if (value >= 1 && value <= 8) return value;
    } else if (tag === EXIF_TABLE && type === LONG && nested) {
      const found = orientationIn(exif, exif.getUint32(entry + 8, littleEndian), littleEndian, false);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

/** Where the pixels of a file go in the upright image. Decoders write them there directly, without a second copy. */
export interface Placement {
  /** Size of the upright image. */
  readonly width: number;
  readonly height: number;
  /** Number of the pixel in the upright image that is the first one of the file. */
  readonly first: number;
  /** Steps in the upright image to the next pixel of a row of the file, and to its next row. */
  readonly across: number;
  readonly down: number;
}

/** @param orientation the value of EXIF, 1 to 8, of a file of `width` x `height` pixels. */
export function placementOf(orientation: number, width: number, height: number): Placement {
  // In the file, rows go to the right and columns down. From 5 on, rows of the file become columns.
  const turned = orientation >= 5;
  const fromRight = [2, 3, 7, 8].includes(orientation);
  const fromBottom = [3, 4, 6, 7].includes(orientation);
  const size = turned ? {width: height, height: width} : {width, height};
  const [across, down] = turned ? [size.width, 1] : [1, size.width];
  return {
    ...size,
    first: (fromRight ? (width - 1) * across : 0) + (fromBottom ? (height - 1) * down : 0),
    across: fromRight ? -across : across,
    down: fromBottom ? -down : down,
  };
}
