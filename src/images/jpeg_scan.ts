/** Scans of a JPEG file: Huffman codes, and the coefficients they encode. */
import {type Component, type Frame, refuseJpeg, ZIGZAG} from './jpeg_frame';

/** Codes of up to 16 bits, each of which stands for one byte. */
export class HuffmanTable {
  /** For each code length: the largest code, or −1, and the offset from a code to the index of its symbol. */
  private readonly largest = new Int32Array(17).fill(-1);
  private readonly shift = new Int32Array(17);

  /** @param counts number of codes of 1, 2, … 16 bits; the symbols are in the order of their codes. */
  constructor(
    counts: readonly number[],
    private readonly symbols: readonly number[],
  ) {
    let code = 0;
    let index = 0;
    counts.forEach((count, i) => {
      this.shift[i + 1] = index - code;
      index += count;
      code += count;
      if (count > 0) this.largest[i + 1] = code - 1;
      if (code > 2 ** (i + 1)) refuseJpeg('a file with an ambiguous Huffman code');
      code *= 2;
    });
  }

  /** Returns 0 for an unknown code after 17 bits, as libjpeg does, so that damaged files give the same pixels. */
  read(bits: BitReader): number {
    let code = 0;
    for (let length = 1; length <= 16; length++) {
      code = code * 2 + bits.bit();
      if (code <= this.largest[length]!) return this.symbols[code + this.shift[length]!]!;
    }
    bits.bit();
    return 0;
  }
}

/** The bits of a scan. Where a marker comes too early, zeros replace the missing bits, as in libjpeg. */
class BitReader {
  /** Whether bits were missing since the last restart. */
  missing = false;
  private current = 0;
  private left = 0;

  constructor(
    private readonly bytes: Uint8Array,
    public at: number,
  ) {}

  bit(): number {
    if (this.left === 0 && !this.next()) return 0;
    this.left--;
    return (this.current >> this.left) & 1;
  }

  /** Reads the next byte. @returns false if a marker comes instead. */
  private next(): boolean {
    const {bytes} = this;
    let {at} = this;
    // Fill bytes may precede a marker. A zero after 0xff means that it is data, not a marker.
    if (bytes[at] === 0xff) while (bytes[at] === 0xff) at++;
    if (at >= bytes.length) refuseJpeg('a file that ends too early');
    if (at > this.at && bytes[at] !== 0) {
      this.missing = true;
      return false;
    }
    this.current = at > this.at ? 0xff : bytes[at]!;
    this.at = at + 1;
    this.left = 8;
    return true;
  }

  bits(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) value = value * 2 + this.bit();
    return value;
  }

  /** A number of `count` bits; those that start with 0 are negative. */
  signed(count: number): number {
    if (count === 0) return 0;
    const value = this.bits(count);
    return value < 2 ** (count - 1) ? value - 2 ** count + 1 : value;
  }

  /**
   * Skips the marker that ends a restart interval, whose number is `expected`. If another marker is found, this does as
   * libjpeg: it skips earlier restart markers, and treats the interval as empty before later ones.
   */
  restart(expected: number): void {
    this.left = 0;
    for (;;) {
      const marker = this.findMarker();
      const isRestart = marker >= 0xd0 && marker <= 0xd7;
      const ahead = (marker - 0xd0 - expected) & 7;
      // Keeps a later marker for a later interval.
      if (marker >= 0xc0 && (!isRestart || ahead === 1 || ahead === 2)) return;
      this.at += 2;
      if (isRestart && ahead < 6) break;
    }
    this.missing = false;
  }

  /** Moves to the next marker. @returns its second byte. */
  private findMarker(): number {
    const {bytes} = this;
    while (this.at + 1 < bytes.length) {
      const marker = bytes[this.at + 1]!;
      if (bytes[this.at] === 0xff && marker !== 0xff && marker !== 0) return marker;
      this.at++;
    }
    return refuseJpeg('a file that ends too early');
  }
}

export interface ScanTables {
  dc: readonly (HuffmanTable | undefined)[];
  ac: readonly (HuffmanTable | undefined)[];
  /** Units between restarts; 0 for none. */
  restartInterval: number;
}

interface ScanComponent {
  component: Component;
  dc: HuffmanTable | undefined;
  ac: HuffmanTable | undefined;
  /** Mean of the previous block. Files store only the difference from it. */
  previous: number;
}

/** Reads a scan into the coefficients of the frame. @returns the position after it. */
export function readScan(bytes: Uint8Array, at: number, head: DataView, frame: Frame, tables: ScanTables): number {
  const count = head.getUint8(0);
  const chosen: ScanComponent[] = Array.from({length: count}, (_, i) => {
    const [id, table] = [head.getUint8(1 + 2 * i), head.getUint8(2 + 2 * i)];
    const component =
      frame.components.find(one => one.id === id) ?? refuseJpeg(`a file with a scan of an unknown component, ${id}`);
    return {component, dc: tables.dc[table >> 4], ac: tables.ac[table & 15], previous: 0};
  });
  if (count === 0) refuseJpeg('a file with a scan of no components');
  const [first, last, approximation] = [1, 2, 3].map(i => head.getUint8(2 * count + i)) as [number, number, number];
  const {progressive} = frame;
  if (progressive) {
    const [high, low] = [approximation >> 4, approximation & 15];
    // Means have scans of their own, and other coefficients have one for each component. Later scans add one bit.
    const whole = first === 0 ? last === 0 : first <= last && last <= 63 && count === 1;
    if (!whole || low > 13 || (high > 0 && low !== high - 1)) {
      refuseJpeg(`a file with a scan of coefficients ${first} to ${last}, bits ${high} to ${low}`);
    }
  }
  const pass: Pass = progressive
    ? {first, last, low: approximation & 15, refine: approximation >> 4 > 0, progressive}
    : {first: 0, last: 63, low: 0, refine: false, progressive};
  const bits = new BitReader(bytes, at);
  const decoder = new BlockDecoder(bits, pass);

  const units = unitsOf(chosen, frame);
  let restarts = 0;
  for (let unit = 0; unit < units.count; unit++) {
    if (tables.restartInterval > 0 && unit > 0 && unit % tables.restartInterval === 0) {
      decoder.restart(restarts++ & 7);
      for (const one of chosen) one.previous = 0;
    }
    // The rest of an interval that ends too early stays empty.
    if (bits.missing && tables.restartInterval === 0) break;
    if (!bits.missing) units.visit(unit, (one, block) => decoder.decode(one, block * 64));
  }
  return bits.at;
}

/**
 * A scan of one component is a sequence of its blocks. A scan of several components is a sequence of units, each of
 * which holds all blocks of one part of the image.
 */
function unitsOf(chosen: ScanComponent[], {width, height, maxH, maxV}: Frame) {
  type Visit = (one: ScanComponent, block: number) => void;
  if (chosen.length === 1) {
    const [one] = chosen as [ScanComponent];
    const {columns, rows, stride} = one.component;
    return {
      count: columns * rows,
      visit: (unit: number, visit: Visit) => visit(one, Math.floor(unit / columns) * stride + (unit % columns)),
    };
  }
  const across = Math.ceil(width / (8 * maxH));
  return {
    count: across * Math.ceil(height / (8 * maxV)),
    visit(unit: number, visit: Visit) {
      const [row, column] = [Math.floor(unit / across), unit % across];
      for (const one of chosen) {
        const {h, v, stride} = one.component;
        for (let y = 0; y < v; y++) {
          for (let x = 0; x < h; x++) visit(one, (row * v + y) * stride + column * h + x);
        }
      }
    },
  };
}

interface Pass {
  /** First and last coefficient. */
  first: number;
  last: number;
  /** Number of low bits that later passes add. */
  low: number;
  /** Whether this pass adds one bit to known coefficients. */
  refine: boolean;
  progressive: boolean;
}

class BlockDecoder {
  /** Number of following blocks without further coefficients in this pass. */
  private empty = 0;

  constructor(
    private readonly bits: BitReader,
    private readonly pass: Pass,
  ) {}

  restart(expected: number): void {
    this.empty = 0;
    this.bits.restart(expected);
  }

  decode(one: ScanComponent, offset: number): void {
    const {first, refine} = this.pass;
    const {coefficients} = one.component;
    if (first === 0) this.mean(one, offset);
    if (this.pass.last === 0) return;
    const table = one.ac ?? refuseJpeg('a file without a code');
    if (refine) this.refineRest(table, coefficients, offset);
    else this.readRest(table, coefficients, offset);
  }

  private mean(one: ScanComponent, offset: number): void {
    const {bits, pass} = this;
    const {coefficients} = one.component;
    if (pass.refine) {
      coefficients[offset] = coefficients[offset]! | (bits.bit() << pass.low);
      return;
    }
    const size = (one.dc ?? refuseJpeg('a file without a code')).read(bits);
    if (size > 15) refuseJpeg('a file with a number that is too large');
    one.previous += bits.signed(size);
    coefficients[offset] = one.previous << pass.low;
  }

  private readRest(table: HuffmanTable, coefficients: Int16Array, offset: number): void {
    const {bits, pass} = this;
    if (this.empty > 0) {
      this.empty--;
      return;
    }
    for (let k = Math.max(1, pass.first); k <= pass.last; k++) {
      const symbol = table.read(bits);
      const zeros = symbol >> 4;
      const size = symbol & 15;
      if (size === 0) {
        if (zeros < 15) {
          // The rest of this block is zero. In progressive images, so is the rest of a number of following blocks.
          this.empty = pass.progressive ? 2 ** zeros - 1 + bits.bits(zeros) : 0;
          return;
        }
        k += 15;
        continue;
      }
      k += zeros;
      coefficients[offset + ZIGZAG[k]!] = bits.signed(size) << pass.low;
    }
  }

  private refineRest(table: HuffmanTable, coefficients: Int16Array, offset: number): void {
    const {bits, pass} = this;
    const step = 1 << pass.low;
    const refine = (at: number) => {
      const value = coefficients[at]!;
      if (bits.bit() && (value & step) === 0) coefficients[at] = value + (value > 0 ? step : -step);
    };
    let k = pass.first;
    if (this.empty === 0) {
      for (; k <= pass.last; k++) {
        const symbol = table.read(bits);
        let zeros = symbol >> 4;
        let value = 0;
        if ((symbol & 15) === 0) {
          if (zeros < 15) {
            this.empty = 2 ** zeros + bits.bits(zeros);
            break;
          }
        } else value = bits.bit() ? step : -step;
        // Skips `zeros` zeros and refines the values between them; the new value replaces the next zero.
        for (; k <= pass.last; k++) {
          const at = offset + ZIGZAG[k]!;
          if (coefficients[at] !== 0) refine(at);
          else if (zeros-- === 0) break;
        }
        if (value !== 0) coefficients[offset + ZIGZAG[k]!] = value;
      }
    }
    if (this.empty > 0) {
      for (; k <= pass.last; k++) {
        const at = offset + ZIGZAG[k]!;
        if (coefficients[at] !== 0) refine(at);
      }
      this.empty--;
    }
  }
}
