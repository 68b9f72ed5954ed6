/** Reads the files in test/fixtures/training, which make_training_fixtures.py writes and describes. */
import {readFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM} from '../../src';
import {camelKeys} from '../../src/base/casing';
import {fixture, fixtureJson} from '../support/fixtures';

/** Offset in the file of values, and the number of values. */
type Stored = [number, number];

interface Model {
  weights: Stored;
  shapes: number[][];
  x: Record<string, never[]>;
  y: number[][];
  sampleWeight: number[][];
}

export interface RunCase {
  name: string;
  vision: boolean;
  lora: number | null;
  /** Initial weights of LoRA, and their shapes. */
  start?: Stored;
  trainable?: number[][];
  /** Loss and weighted accuracy of each step. */
  steps: [number, number][];
  final: Stored;
  evaluate: [number, number];
}

interface Cases {
  config: Record<string, unknown>;
  encoder: Record<string, unknown>;
  models: {text: Model; vision: Model};
  runs: RunCase[];
  history: Record<string, number[]>;
}

const bytes = readFileSync(fixture('training/values.bin'));
const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));

export const CASES = fixtureJson<Cases>('training/cases.json');

export const stored = ([offset, size]: Stored): Float32Array => values.subarray(offset, offset + size);

/** Sets weights to consecutively stored values. */
export function setWeights(weights: readonly tf.LayerVariable[], from: Stored): void {
  const all = stored(from);
  let at = 0;
  for (const weight of weights) {
    const shape = weight.shape as number[];
    const size = tf.util.sizeFromShape(shape);
    tf.tidy(() => {
      weight.write(tf.tensor(all.slice(at, at + size), shape));
    });
    at += size;
  }
  expect(at).toBe(all.length);
}

export const dataOf = (vision: boolean) => CASES.models[vision ? 'vision' : 'text'];

/** The model of the fixtures. */
export function fixtureModel(vision = false, more: object = {}): Gemma3CausalLM {
  const encoder = vision ? {imageSize: 8, visionEncoder: camelKeys(CASES.encoder)} : {};
  const backbone = new Gemma3Backbone({...camelKeys(CASES.config), ...encoder, ...more} as never);
  expect(backbone.weights.map(({shape}) => shape)).toEqual(dataOf(vision).shapes);
  setWeights(backbone.weights, dataOf(vision).weights);
  const lm = new Gemma3CausalLM({backbone});
  backbone.dispose(); // the model still holds a reference
  return lm;
}

/** The values of all weights, concatenated. */
export const numbersOf = (weights: readonly tf.LayerVariable[]): number[] =>
  weights.flatMap(weight => Array.from(tf.tidy(() => weight.read().dataSync())));

/** Selects rows of the data. */
export function rowsOf(vision: boolean, rows: readonly number[]) {
  const {x, y, sampleWeight} = dataOf(vision);
  const some = <T>(list: readonly T[]) => rows.map(row => list[row]!);
  const inputs = Object.fromEntries(Object.entries(x).map(([name, list]) => [name, some(list)]));
  return {x: inputs, y: some(y), sampleWeight: some(sampleWeight)};
}
