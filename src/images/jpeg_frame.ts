/** Types and constants that all steps of JPEG decoding share: the components and their coefficients. */
import {ValueError} from '../base/errors';

/** One of the planes of an image, such as brightness or a colour. */
export interface Component {
  id: number;
  /** Blocks of this component per unit (the standard's "minimum coded unit"), across and down. */
  h: number;
  v: number;
  /** Index of the quantization table. */
  table: number;
  /** Blocks that cover the image. */
  columns: number;
  rows: number;
  /** Blocks in memory, across and down, which make up whole units. */
  stride: number;
  height: number;
  /** 64 numbers per block, row by row. */
  coefficients: Int16Array;
}

export interface Frame {
  width: number;
  height: number;
  progressive: boolean;
  components: Component[];
  /** Largest h and v. */
  maxH: number;
  maxV: number;
}

/**
 * The n-th entry is the position in its block of the n-th coefficient in the file. In damaged files up to 16
 * coefficients may follow the last one; as in libjpeg, they replace it.
 */
// prettier-ignore
export const ZIGZAG = [
   0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
  35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
  58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
  63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
];

export function refuseJpeg(received: string, advice = 'The file is damaged; fetch it again.'): never {
  throw new ValueError(`Expected a whole JPEG image. Received: ${received}. ${advice}`);
}
