/**
 * Decodes JPEG files (ITU-T T.81), baseline and progressive. The decoders of browsers differ slightly from each other;
 * this one gives the same pixels on every platform. They equal those of libjpeg with default settings, and thus of
 * Pillow and of TensorFlow with "INTEGER_ACCURATE". Damaged files are read as far as libjpeg reads them.
 */
import {type Frame, refuseJpeg, ZIGZAG} from './jpeg_frame';
import {type ColourSpace, toPixels} from './jpeg_planes';
import {HuffmanTable, readScan} from './jpeg_scan';
import {STANDARD_AC, STANDARD_DC} from './jpeg_standard_tables';
import {type ImageOrientation} from './choices';
import {exifOrientation} from './orientation';
import {checkImageSize, type Pixels} from './pixels';

export const isJpeg = (bytes: Uint8Array): boolean => bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;

/** Markers: the byte after 0xff. */
const TEM = 0x01;
const DHT = 0xc4;
const EOI = 0xd9;
const SOS = 0xda;
const DQT = 0xdb;
const DRI = 0xdd;
const JFIF = 0xe0;
const EXIF = 0xe1;
const ADOBE = 0xee;
/** Maximum number of scans. A scan of few bytes can cover the whole image, so more would take minutes. */
const MAX_SCANS = 500;
const ADVICE = 'Save it as an ordinary JPEG or as PNG.';
/** Baseline, extended and progressive frames with Huffman coding. */
const FRAMES = [0xc0, 0xc1, 0xc2];
/** All other kinds of frames. */
const OTHER_FRAMES = [0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf];

/**
 * Decodes a JPEG file. Grey becomes three equal channels.
 *
 * @throws ValueError if the bytes are not a JPEG image, are damaged, or have more pixels than `MAX_IMAGE_PIXELS`.
 */
export function decodeJpeg(bytes: Uint8Array, imageOrientation: ImageOrientation = 'from-image'): Pixels {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const quantization: (Uint16Array | undefined)[] = [];
  let dc: (HuffmanTable | undefined)[] = [];
  let ac: (HuffmanTable | undefined)[] = [];
  let frame: Frame | undefined;
  let restartInterval = 0;
  let jfif = false;
  let adobe: number | undefined;
  let orientation: number | undefined;
  let scans = 0;

  for (let at = 2; ;) {
    // Fill bytes may precede a marker, and garbage may follow a scan.
    while (at < bytes.length && !(bytes[at] === 0xff && bytes[at + 1] !== 0xff && bytes[at + 1] !== 0)) at++;
    if (at + 1 >= bytes.length) return refuseJpeg('a file that ends too early');
    const marker = bytes[at + 1]!;
    at += 2;
    if (marker === EOI) break;
    if ((marker >= 0xd0 && marker <= 0xd8) || marker === TEM) continue;
    const end = at + (at + 2 <= bytes.length ? view.getUint16(at) : Infinity);
    if (end > bytes.length || end < at + 2) return refuseJpeg('a file that ends too early');
    const body = new DataView(bytes.buffer, bytes.byteOffset + at + 2, end - at - 2);
    at = end;
    try {
      if (marker === DQT) readQuantization(body, quantization);
      else if (marker === DHT) readHuffman(body, dc, ac);
      else if (marker === DRI) restartInterval = body.getUint16(0);
      else if (marker === JFIF) jfif ||= body.byteLength >= 5 && body.getUint32(0) === 0x4a464946;
      else if (marker === EXIF && scans === 0 && isExif(body)) orientation ??= exifOrientation(shifted(body, 6));
      else if (marker === ADOBE && body.byteLength >= 12 && body.getUint32(0) === 0x41646f62) adobe = body.getUint8(11);
      else if (FRAMES.includes(marker)) {
        if (frame) refuseJpeg('a file with several frames');
        frame = readFrame(body, marker === 0xc2);
        // Tables in the file replace the standard ones. Progressive files must have their own, as in libjpeg.
        if (!frame.progressive) {
          dc = Object.assign([...STANDARD_DC], dc);
          ac = Object.assign([...STANDARD_AC], ac);
        }
      } else if (OTHER_FRAMES.includes(marker)) {
        refuseJpeg(`a file of an uncommon kind, 0x${marker.toString(16)}`, ADVICE);
      } else if (marker === SOS) {
        if (!frame) return refuseJpeg('a file without a header');
        at = readScan(bytes, at, body, frame, {dc, ac, restartInterval});
        if (++scans > MAX_SCANS) refuseJpeg(`a file with more than ${MAX_SCANS} scans`, ADVICE);
      }
    } catch (error) {
      if (error instanceof RangeError) refuseJpeg('a file with a segment that is too short');
      throw error;
    }
  }
  if (!frame || scans === 0) return refuseJpeg('a file without pixels');
  const turn = imageOrientation === 'none' ? 1 : (orientation ?? 1);
  return toPixels(frame, quantization, colourSpace(frame, jfif, adobe), adobe !== undefined, turn);
}

/** "Exif", a zero and any byte, before the metadata. Other metadata is in segments of the same kind. */
function isExif(body: DataView): boolean {
  return body.byteLength > 6 && body.getUint32(0) === 0x45786966 && body.getUint8(4) === 0;
}

const shifted = ({buffer, byteOffset, byteLength}: DataView, by: number) =>
  new DataView(buffer, byteOffset + by, byteLength - by);

function readQuantization(body: DataView, tables: (Uint16Array | undefined)[]): void {
  for (let at = 0; at < body.byteLength;) {
    const head = body.getUint8(at++);
    const wide = head >> 4 > 0;
    const table = new Uint16Array(64);
    for (let i = 0; i < 64; i++, at += wide ? 2 : 1) table[ZIGZAG[i]!] = wide ? body.getUint16(at) : body.getUint8(at);
    tables[head & 15] = table;
  }
}

function readHuffman(body: DataView, dc: (HuffmanTable | undefined)[], ac: (HuffmanTable | undefined)[]): void {
  for (let at = 0; at < body.byteLength;) {
    const head = body.getUint8(at++);
    const counts = Array.from({length: 16}, (_, i) => body.getUint8(at + i));
    at += 16;
    const symbols = Array.from({length: counts.reduce((a, b) => a + b, 0)}, (_, i) => body.getUint8(at + i));
    at += symbols.length;
    (head >> 4 === 0 ? dc : ac)[head & 15] = new HuffmanTable(counts, symbols);
  }
}

function readFrame(body: DataView, progressive: boolean): Frame {
  const [bits, height, width, count] = [body.getUint8(0), body.getUint16(1), body.getUint16(3), body.getUint8(5)];
  if (bits !== 8) refuseJpeg(`a file with ${bits} bits per sample`, 'Save it with 8.');
  if (width === 0 || height === 0) refuseJpeg(`an image of ${width} x ${height} pixels`);
  checkImageSize(width, height);
  if (![1, 3, 4].includes(count)) refuseJpeg(`a file with ${count} colour components`);
  const heads = Array.from({length: count}, (_, i) => {
    const sampling = body.getUint8(7 + 3 * i);
    const [h, v] = [sampling >> 4, sampling & 15];
    if (h < 1 || h > 4 || v < 1 || v > 4) refuseJpeg(`a file with sampling factors ${h} x ${v}`);
    return {id: body.getUint8(6 + 3 * i), h, v, table: body.getUint8(8 + 3 * i)};
  });
  const maxH = Math.max(...heads.map(({h}) => h));
  const maxV = Math.max(...heads.map(({v}) => v));
  const components = heads.map(head => {
    const columns = Math.ceil(Math.ceil((width * head.h) / maxH) / 8);
    const rows = Math.ceil(Math.ceil((height * head.v) / maxV) / 8);
    const stride = Math.ceil(width / (8 * maxH)) * head.h;
    const blocks = Math.ceil(height / (8 * maxV)) * head.v;
    return {...head, columns, rows, stride, height: blocks, coefficients: new Int16Array(stride * blocks * 64)};
  });
  return {width, height, progressive, components, maxH, maxV};
}

/** The meaning of the components. Files declare it in several ways, or not at all. */
function colourSpace({components}: Frame, jfif: boolean, adobe: number | undefined): ColourSpace {
  if (components.length === 1) return 'grey';
  if (components.length === 4) return adobe === 2 ? 'ycck' : 'cmyk';
  if (jfif) return 'ycc';
  if (adobe !== undefined) return adobe === 0 ? 'rgb' : 'ycc';
  return String.fromCharCode(...components.map(({id}) => id)) === 'RGB' ? 'rgb' : 'ycc';
}
