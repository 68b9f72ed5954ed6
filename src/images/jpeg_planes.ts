/**
 * Converts JPEG coefficients to pixels with libjpeg's integer arithmetic: transforms the blocks, enlarges the planes,
 * and converts the colours.
 */
import {type Component, type Frame, refuseJpeg} from './jpeg_frame';
import {type Placement, placementOf} from './orientation';
import {type Pixels} from './pixels';

export type ColourSpace = 'grey' | 'rgb' | 'ycc' | 'cmyk' | 'ycck';

interface Plane {
  width: number;
  height: number;
  /** Numbers from the start of one row to the next. */
  stride: number;
  values: Uint8Array;
}

const clamp = (value: number) => (value < 0 ? 0 : value > 255 ? 255 : value);

/** @param orientation the value of EXIF, 1 to 8. */
export function toPixels(
  frame: Frame,
  tables: readonly (Uint16Array | undefined)[],
  space: ColourSpace,
  inverted: boolean,
  orientation: number,
): Pixels {
  const {width, height, maxH, maxV} = frame;
  const planes = frame.components.map(component => {
    const table = tables[component.table] ?? refuseJpeg('a file without a quantization table');
    const plane = transformed(component, table, frame);
    // Releases the largest arrays one after the other.
    component.coefficients = new Int16Array(0);
    return enlarged(plane, maxH / component.h, maxV / component.v, width, height);
  });
  const placement = placementOf(orientation, width, height);
  const values = toColours(planes, space, inverted, width, height, placement);
  return {height: placement.height, width: placement.width, channels: 3, values};
}

// === Transform ===

/** Constants of the cosine transform, times 2¹³. */
const C_0_298 = 2446;
const C_0_390 = 3196;
const C_0_541 = 4433;
const C_0_765 = 6270;
const C_0_899 = 7373;
const C_1_175 = 9633;
const C_1_501 = 12299;
const C_1_847 = 15137;
const C_1_961 = 16069;
const C_2_053 = 16819;
const C_2_562 = 20995;
const C_3_072 = 25172;

/**
 * Applies the inverse cosine transform in place to eight numbers, `step` apart, and divides them by 2^`shift`. The
 * numbers have 16 bits, as in libjpeg's vector code. Only damaged files exceed them.
 */
function transform8(data: Int32Array, at: number, step: number, shift: number): void {
  const round = 1 << (shift - 1);
  const i1 = at + step;
  const i2 = i1 + step;
  const i3 = i2 + step;
  const i4 = i3 + step;
  const i5 = i4 + step;
  const i6 = i5 + step;
  const i7 = i6 + step;
  // Even coefficients
  const shared = (data[i2]! + data[i6]!) * C_0_541;
  const even2 = shared - data[i6]! * C_1_847;
  const even3 = shared + data[i2]! * C_0_765;
  // Sums of 16 bits, times 2¹³.
  const even0 = ((data[at]! + data[i4]!) << 16) >> 3;
  const even1 = ((data[at]! - data[i4]!) << 16) >> 3;
  const a0 = even0 + even3 + round;
  const a1 = even1 + even2 + round;
  const a2 = even1 - even2 + round;
  const a3 = even0 - even3 + round;
  // Odd coefficients
  const d0 = data[i7]!;
  const d1 = data[i5]!;
  const d2 = data[i3]!;
  const d3 = data[i1]!;
  const d02 = ((d0 + d2) << 16) >> 16;
  const d13 = ((d1 + d3) << 16) >> 16;
  const z5 = (d02 + d13) * C_1_175;
  const z1 = -(d0 + d3) * C_0_899;
  const z2 = -(d1 + d2) * C_2_562;
  const z3 = -d02 * C_1_961 + z5;
  const z4 = -d13 * C_0_390 + z5;
  const b0 = d0 * C_0_298 + z1 + z3;
  const b1 = d1 * C_2_053 + z2 + z4;
  const b2 = d2 * C_3_072 + z2 + z3;
  const b3 = d3 * C_1_501 + z1 + z4;
  data[at] = (a0 + b3) >> shift;
  data[i7] = (a0 - b3) >> shift;
  data[i1] = (a1 + b2) >> shift;
  data[i6] = (a1 - b2) >> shift;
  data[i2] = (a2 + b1) >> shift;
  data[i5] = (a2 - b1) >> shift;
  data[i3] = (a3 + b0) >> shift;
  data[i4] = (a3 - b0) >> shift;
}

/** Smaller coefficients cannot exceed 16 bits halfway. */
const LARGE = 2048;

function transformed(component: Component, table: Uint16Array, {width, height, maxH, maxV}: Frame): Plane {
  const {columns, rows, stride: blocks, coefficients} = component;
  const stride = columns * 8;
  const values = new Uint8Array(stride * rows * 8);
  const data = new Int32Array(64);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = (row * blocks + column) * 64;
      let rest = 0;
      for (let i = 1; i < 64; i++) {
        const value = ((coefficients[from + i]! * table[i]!) << 16) >> 16;
        data[i] = value;
        if (value !== 0) rest |= Math.abs(value);
      }
      data[0] = ((coefficients[from]! * table[0]!) << 16) >> 16;
      if (rest === 0) {
        // A block of one colour: the transform of its mean.
        data.fill((((data[0]! << 18) >> 16) + 16) >> 5);
      } else {
        const large = (rest | Math.abs(data[0])) >= LARGE;
        for (let i = 0; i < 8; i++) transform8(data, i, 8, 11);
        if (large) for (let i = 0; i < 64; i++) data[i] = Math.max(-32768, Math.min(32767, data[i]!));
        for (let i = 0; i < 8; i++) transform8(data, i * 8, 1, 18);
      }
      for (let y = 0; y < 8; y++) {
        const to = (row * 8 + y) * stride + column * 8;
        for (let x = 0; x < 8; x++) values[to + x] = clamp(data[y * 8 + x]! + 128);
      }
    }
  }
  const part = (length: number, factor: number, most: number) => Math.ceil((length * factor) / most);
  return {width: part(width, component.h, maxH), height: part(height, component.v, maxV), stride, values};
}

// === Full size ===

/**
 * Enlarges a plane to the size of the image. Enlarging by a factor of two also smooths: three parts of the nearest
 * pixel and one part of the next nearest.
 */
function enlarged(plane: Plane, across: number, down: number, width: number, height: number): Plane {
  if (across === 1 && down === 1) return plane;
  // libjpeg does not smooth planes of one or two columns.
  const smooth = plane.width > 2;
  if (across === 1 && down === 2) return doubledRows(plane, height);
  if (across === 2 && down === 1 && smooth) return doubledColumns(plane, height);
  if (across === 2 && down === 2 && smooth) return doubled(plane, height);
  const values = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const from = Math.floor(y / down) * plane.stride;
    for (let x = 0; x < width; x++) values[y * width + x] = plane.values[from + Math.floor(x / across)]!;
  }
  return {width, height, stride: width, values};
}

/** The nearest row to row y of a plane twice as tall, and the next nearest. */
function nearRows({height, stride, values}: Plane, y: number): [Uint8Array, Uint8Array] {
  const near = y >> 1;
  const far = Math.max(0, Math.min(height - 1, y % 2 === 0 ? near - 1 : near + 1));
  return [values.subarray(near * stride), values.subarray(far * stride)];
}

function doubledRows(plane: Plane, height: number): Plane {
  const {width} = plane;
  const values = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const [near, far] = nearRows(plane, y);
    const round = y % 2 === 0 ? 1 : 2;
    for (let x = 0; x < width; x++) values[y * width + x] = (3 * near[x]! + far[x]! + round) >> 2;
  }
  return {width, height, stride: width, values};
}

function doubledColumns({width, stride: from, values: input}: Plane, height: number): Plane {
  const stride = width * 2;
  const values = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const row = input.subarray(y * from, y * from + width);
    for (let x = 0; x < width; x++) {
      const near = row[x]! * 3;
      values[y * stride + 2 * x] = x === 0 ? row[0]! : (near + row[x - 1]! + 1) >> 2;
      values[y * stride + 2 * x + 1] = x === width - 1 ? row[x]! : (near + row[x + 1]! + 2) >> 2;
    }
  }
  return {width: stride, height, stride, values};
}

function doubled(plane: Plane, height: number): Plane {
  const {width} = plane;
  const stride = width * 2;
  const values = new Uint8Array(stride * height);
  const sums = new Int32Array(width);
  for (let y = 0; y < height; y++) {
    const [near, far] = nearRows(plane, y);
    for (let x = 0; x < width; x++) sums[x] = 3 * near[x]! + far[x]!;
    for (let x = 0; x < width; x++) {
      const left = sums[Math.max(0, x - 1)]!;
      const right = sums[Math.min(width - 1, x + 1)]!;
      values[y * stride + 2 * x] = (3 * sums[x]! + left + 8) >> 4;
      values[y * stride + 2 * x + 1] = (3 * sums[x]! + right + 7) >> 4;
    }
  }
  return {width: stride, height, stride, values};
}

// === Colours ===

/** Constants times 2¹⁶. */
const RED = 91881;
const BLUE = 116130;
const GREEN_OF_RED = 46802;
const GREEN_OF_BLUE = 22554;
const HALF = 32768;

function toColours(
  planes: Plane[],
  space: ColourSpace,
  inverted: boolean,
  width: number,
  height: number,
  {first, across, down}: Placement,
): Uint8Array {
  const values = new Uint8Array(width * height * 3);
  const [one, two = one, three = one, four = one] = planes as [Plane, ...Plane[]];
  const lightAndColour = space === 'ycc' || space === 'ycck';
  const inks = space === 'cmyk' || space === 'ycck';
  const step = across * 3;
  for (let y = 0; y < height; y++) {
    for (let x = 0, to = (first + y * down) * 3; x < width; x++, to += step) {
      let red = one.values[y * one.stride + x]!;
      let green = two.values[y * two.stride + x]!;
      let blue = three.values[y * three.stride + x]!;
      if (lightAndColour) {
        const light = red;
        const cb = green - 128;
        const cr = blue - 128;
        red = clamp(light + ((RED * cr + HALF) >> 16));
        green = clamp(light + ((-GREEN_OF_BLUE * cb - GREEN_OF_RED * cr + HALF) >> 16));
        blue = clamp(light + ((BLUE * cb + HALF) >> 16));
      }
      if (inks) {
        // Black ink darkens the other colours. Adobe's files store inverted values.
        const black = four.values[y * four.stride + x]!;
        const left = inverted ? black : 255 - black;
        const flip = inverted === (space === 'ycck');
        red = Math.trunc((left * (flip ? 255 - red : red)) / 255);
        green = Math.trunc((left * (flip ? 255 - green : green)) / 255);
        blue = Math.trunc((left * (flip ? 255 - blue : blue)) / 255);
      }
      values[to] = red;
      values[to + 1] = green;
      values[to + 2] = blue;
    }
  }
  return values;
}
