/** The rows of a PNG image: undoes their filters and converts their samples to colours, as they are decompressed. */
import {ValueError} from '../base/errors';
import {type Placement} from './orientation';

/** Samples per pixel, by colour type. */
export const SAMPLES: Readonly<Record<number, number>> = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4};
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

export interface Header {
  width: number;
  height: number;
  depth: number;
  colour: number;
  interlaced: boolean;
}

interface Pass {
  x: number;
  y: number;
  dx: number;
  dy: number;
  columns: number;
  rows: number;
  /** Bytes of a row without its filter. */
  length: number;
}

export const damaged = (received: string): never => {
  throw new ValueError(`Expected a whole PNG image. Received: ${received}. The file is damaged; fetch it again.`);
};

const passesOf = ({width, height, depth, colour, interlaced}: Header): Pass[] =>
  (interlaced ? ADAM7 : WHOLE)
    .map(([x, y, dx, dy]) => {
      const [columns, rows] = [Math.ceil((width - x) / dx), Math.ceil((height - y) / dy)];
      return {x, y, dx, dy, columns, rows, length: Math.ceil((columns * depth * SAMPLES[colour]!) / 8)};
    })
    .filter(({columns, rows}) => columns > 0 && rows > 0);

/** Bytes of all rows of an image. */
export const sizeOfRows = (header: Header): number =>
  passesOf(header).reduce((sum, {rows, length}) => sum + rows * (1 + length), 0);

/** Receives the bytes of rows in pieces of any size, so that they are never in memory all at once. */
export class RowReader {
  /** The pixels (height, width, 3) of the upright image. */
  readonly values: Uint8Array;
  private readonly passes: Pass[];
  private readonly colours: Uint8Array | undefined;
  /** Distance in bytes to the pixel on the left. */
  private readonly step: number;
  private pass: Pass;
  private row = 0;
  /** A row with its filter, and how much of it is filled; the row above, all zeros at first. */
  private line: Uint8Array;
  private filled = 0;
  private above: Uint8Array;

  constructor(
    private readonly header: Header,
    palette: Uint8Array,
    private readonly placement: Placement,
  ) {
    const {width, height, depth, colour} = header;
    this.values = new Uint8Array(width * height * 3);
    this.colours = coloursOf(header, palette);
    this.step = Math.max(1, (depth * SAMPLES[colour]!) >> 3);
    [this.pass, ...this.passes] = passesOf(header) as [Pass, ...Pass[]];
    this.line = new Uint8Array(1 + this.pass.length);
    this.above = new Uint8Array(1 + this.pass.length);
  }

  /** True once the image is complete. Further bytes are ignored. */
  get done(): boolean {
    return this.row === this.pass.rows;
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.done;) {
      const part = Math.min(bytes.length - at, this.line.length - this.filled);
      if (part < 32) for (let i = 0; i < part; i++) this.line[this.filled + i] = bytes[at + i]!;
      else this.line.set(bytes.subarray(at, at + part), this.filled);
      at += part;
      this.filled += part;
      if (this.filled === this.line.length) this.finishRow();
    }
  }

  private finishRow(): void {
    const {line, above, pass, row} = this;
    const {first, across, down} = this.placement;
    unfilter(line, above, this.step);
    this.expand(line, (first + (pass.y + row * pass.dy) * down + pass.x * across) * 3, pass.dx * across * 3);
    this.filled = 0;
    this.row++;
    if (this.done && this.passes.length > 0) {
      this.pass = this.passes.shift()!;
      this.row = 0;
      this.line = new Uint8Array(1 + this.pass.length);
      this.above = new Uint8Array(1 + this.pass.length);
    } else {
      this.line = above;
      this.above = line;
    }
  }

  /** Writes a row as red, green and blue, each pixel `step` values after the previous one. */
  private expand(line: Uint8Array, to: number, step: number): void {
    const {values, colours} = this;
    const {depth, colour} = this.header;
    const {columns} = this.pass;
    if (colours) {
      const highest = 2 ** depth - 1;
      for (let bit = 8, end = 8 + columns * depth; bit < end; bit += depth, to += step) {
        const entry = 3 * ((line[bit >> 3]! >> (8 - depth - (bit & 7))) & highest);
        values[to] = colours[entry]!;
        values[to + 1] = colours[entry + 1]!;
        values[to + 2] = colours[entry + 2]!;
      }
      return;
    }
    const samples = SAMPLES[colour]!;
    const bytes = depth >> 3;
    // Grey has one sample for all three channels.
    const [green, blue] = samples < 3 ? [0, 0] : [bytes, 2 * bytes];
    for (let i = 0, from = 1; i < columns; i++, from += samples * bytes, to += step) {
      values[to] = line[from]!;
      values[to + 1] = line[from + green]!;
      values[to + 2] = line[from + blue]!;
    }
  }
}

/** The colours of samples that are not colours themselves: palettes, and grey of few bits. */
function coloursOf({depth, colour}: Header, palette: Uint8Array): Uint8Array | undefined {
  if (colour !== PALETTE && depth >= 8) return undefined;
  // A palette may be too short or too long. Missing colours are black, as in libpng and Pillow.
  const colours = new Uint8Array(3 * 2 ** depth);
  if (colour === PALETTE) {
    if (palette.length === 0 || palette.length % 3 !== 0) damaged('a file without a whole palette');
    colours.set(palette.subarray(0, colours.length));
  } else colours.forEach((_, i) => (colours[i] = (Math.floor(i / 3) * 255) / (2 ** depth - 1)));
  return colours;
}

/** Undoes the filter of a row, in place. The first byte of a row is its filter. */
function unfilter(line: Uint8Array, above: Uint8Array, step: number): void {
  const {length} = line;
  const filter = line[0]!;
  const first = 1 + step;
  if (filter === 1) {
    for (let i = first; i < length; i++) line[i] = line[i]! + line[i - step]!;
  } else if (filter === 2) {
    for (let i = 1; i < length; i++) line[i] = line[i]! + above[i]!;
  } else if (filter === 3) {
    for (let i = 1; i < length; i++) line[i] = line[i]! + (((i < first ? 0 : line[i - step]!) + above[i]!) >> 1);
  } else if (filter === 4) {
    for (let i = 1; i < Math.min(first, length); i++) line[i] = line[i]! + above[i]!;
    for (let i = first; i < length; i++) line[i] = line[i]! + paeth(line[i - step]!, above[i]!, above[i - step]!);
  } else if (filter !== 0) damaged(`a file with filter ${filter}`);
}

/** The one of the three that is nearest to left + up - corner. */
function paeth(left: number, up: number, corner: number): number {
  const toLeft = Math.abs(up - corner);
  const toUp = Math.abs(left - corner);
  const toCorner = Math.abs(left + up - 2 * corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}
