/** Reads test/fixtures/vision, which make_vision_fixtures.py describes. */
import * as tf from '@tensorflow/tfjs';
import {fixtureBytes, fixtureJson} from './fixtures';

/** Offset in values.bin, as a number of float32 values, and shape. */
type Stored = [number, number[]];

interface Cases {
  encoders: {
    name: string;
    config: Record<string, number>;
    numVisionTokensPerImage: number;
    weights: Record<string, Stored>;
    runs: {images: Stored; output: Stored}[];
  }[];
  interleave: {name: string; tokens: number; indices: number[][]; images: Stored; text: Stored; output: Stored}[];
  dense: {activation: string; x: Stored; kernel: Stored; bias: Stored; output: Stored}[];
  layerNormalization: {epsilon: number; x: Stored; gamma: Stored; beta: Stored; output: Stored}[];
}

const bytes = fixtureBytes('vision/values.bin');
const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));

export const CASES = fixtureJson<Cases>('vision/cases.json');

export function stored([offset, shape]: Stored): tf.Tensor {
  return tf.tensor(values.slice(offset, offset + tf.util.sizeFromShape(shape)), shape, 'float32');
}
