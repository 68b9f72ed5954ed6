/** Q4_0 and Q8_0 at rest as int4 and int8: the same integers, with scales that are rounded to bfloat16. */
import type * as tf from '@tensorflow/tfjs';
import {convertPreset, Gemma3Backbone, Gemma3CausalLM, useBackend} from '../../../src';
import {bfloat16ToFloat32, float32ToBfloat16} from '../../../src/base/half';
import {openCheckpoint} from '../../../src/checkpoints/open_checkpoint';
import {PackedWeight} from '../../../src/weights/packed_weight';
import {MemoryPreset} from '../../../src/public/files';
import {fixture} from '../../support/fixtures';

beforeAll(async () => {
  await useBackend('simd', {threads: 1});
});

/** A number rounded to bfloat16. */
function rounded(value: number): number {
  const [half, float] = [new Uint16Array(1), new Float32Array(1)];
  float32ToBfloat16(Float32Array.of(value), half);
  bfloat16ToFloat32(half, float);
  return float[0]!;
}

/** Rows of a packed weight as the file has them: (outputs, inputs). */
async function rowsOf(weight: PackedWeight): Promise<Float32Array> {
  const values = weight.packing.unpack(weight.bits, weight.rows, weight.columns);
  const read = (await values.data()) as Float32Array;
  values.dispose();
  return read;
}

const CASES = [
  ['text_q8_0', 'int8'],
  ['text_q4_0', 'int4'],
  // Integers of four bits fit into eight.
  ['text_q4_0', 'int8'],
] as const;

test.each(CASES)('%s as %s', async (name, dtype) => {
  const file = fixture(`gguf/${name}.gguf`);
  const backbone = await Gemma3Backbone.fromPreset(file, {dtype});
  const checkpoint = await openCheckpoint(file);
  const {variables, keyOf, close} = await checkpoint.weights();
  let compared = 0;
  for (const weight of backbone.weights) {
    if (!(weight instanceof PackedWeight)) continue;
    const stream = variables.get(keyOf('', weight))!.stream();
    const {integers, scales} = await stream.integers!.readIntegers(0, weight.rows * weight.columns);
    const values = await rowsOf(weight);
    const wrong = values.findIndex((value, i) => value !== Math.fround(integers[i]! * rounded(scales[i >> 5]!)));
    expect([weight.originalName, wrong]).toEqual([weight.originalName, -1]);
    for (const scale of scales) expect(Math.abs(rounded(scale) - scale)).toBeLessThanOrEqual(2 ** -8 * Math.abs(scale));
    compared++;
  }
  // The embedding and seven matrices in each of seven blocks.
  expect(compared).toBe(50);
  await close();
  await checkpoint.close();
  backbone.dispose();
});

test('Q8_0 does not fit into int4: it is packed from its values', async () => {
  const backbone = await Gemma3Backbone.fromPreset(fixture('gguf/text_q8_0.gguf'), {dtype: 'int4'});
  const reference = await Gemma3Backbone.fromPreset(fixture('gguf/text_q8_0.gguf'), {dtype: 'float32'});
  await reference.quantize('int4');
  for (const [i, weight] of backbone.weights.entries()) {
    if (!(weight instanceof PackedWeight)) continue;
    const [a, b] = [await rowsOf(weight), await rowsOf(reference.weights[i] as PackedWeight)];
    const worst = a.reduce((most, value, k) => Math.max(most, Math.abs(value - b[k]!)), 0);
    expect([weight.originalName, worst < 0.05]).toEqual([weight.originalName, true]);
  }
  backbone.dispose();
  reference.dispose();
});

test('converted for tfjs, the integers are the same', async () => {
  const file = fixture('gguf/text_q4_0.gguf');
  const target = new MemoryPreset();
  await convertPreset(file, target, {to: 'tfjs', dtype: 'int4'});
  const [loaded, converted] = [
    await Gemma3Backbone.fromPreset(file, {dtype: 'int4'}),
    await Gemma3Backbone.fromPreset(target),
  ];
  for (const [i, weight] of loaded.weights.entries()) {
    if (!(weight instanceof PackedWeight)) continue;
    const other = converted.weights[i] as PackedWeight;
    // Four bits hold all of it, also where int4 would store other values as int8.
    expect([weight.format, other.format]).toEqual(['int4', 'int4']);
    expect(await other.bits.data()).toEqual(await weight.bits.data());
  }
  loaded.dispose();
  converted.dispose();
});

test('a model of integers writes what one of floats writes with the same values', async () => {
  const file = fixture('gguf/text_q8_0.gguf');
  const packed = await Gemma3CausalLM.fromPreset(file, {dtype: 'int8'});
  const ids = {token_ids: [[2, 100, 200, 300]], padding_mask: [[1, 1, 1, 1]]};
  const ours = packed.backbone.predict(ids) as tf.Tensor;
  const floats = await Gemma3CausalLM.fromPreset(file, {dtype: 'float32'});
  const theirs = floats.backbone.predict(ids) as tf.Tensor;
  const [a, b] = [await ours.data(), await theirs.data()];
  const length = Math.hypot(...Array.from(b));
  expect(Math.hypot(...Array.from(a).map((value, i) => value - b[i]!)) / length).toBeLessThan(0.03);
  for (const one of [ours, theirs, packed, floats]) one.dispose();
});
