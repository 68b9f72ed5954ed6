/** Weights that are declared first and filled later. */
import * as tf from '@tensorflow/tfjs';
import {presets} from '../../src/hub/registry';
import {Gemma3Backbone} from '../../src/models/gemma3/gemma3_backbone';
import '../../src/ops/bfloat16_rows';
import {type Initializer} from '../../src/weights/initializers';
import {PIECE} from '../../src/weights/value_stream';
import {hollow, Weight} from '../../src/weights/weight';
import {hostFloat32, registerFloat32Target} from '../../src/weights/float32_target';
import {FakeStream} from '../support/fake_stream';

/** An initializer, and how often it ran. */
function counting(): [Initializer, () => number] {
  const initializer = tf.initializers.constant({value: 3});
  const spy = jest.spyOn(initializer, 'apply');
  return [initializer, () => spy.mock.calls.length];
}

describe('Weight', () => {
  test('is initialized when it is first read, and only then', () => {
    const before = tf.memory().numTensors;
    const [initializer, calls] = counting();
    const weight = new Weight([2, 2], 'w', initializer);
    expect(tf.memory().numTensors).toBe(before + 1);
    expect([weight.filled, weight.shape, weight.dtype, calls()]).toEqual([false, [2, 2], 'float32', 0]);
    expect(Array.from(weight.read().dataSync())).toEqual([3, 3, 3, 3]);
    weight.read();
    expect([weight.filled, calls()]).toEqual([true, 1]);
    expect(tf.memory().numTensors).toBe(before + 1);
    weight.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('keeps its values when it is first read inside a tidy', () => {
    const weight = new Weight([2], 'w', counting()[0]);
    tf.tidy(() => {
      weight.read();
    });
    expect(Array.from(weight.read().dataSync())).toEqual([3, 3]);
    weight.dispose();
  });

  test('is never initialized if it was filled before', async () => {
    const before = tf.memory().numTensors;
    const [initializer, calls] = counting();
    const written = new Weight([2], 'w', initializer);
    tf.tidy(() => {
      written.write(tf.tensor1d([1, 2]));
    });
    const filled = new Weight([2], 'f', initializer);
    await filled.fill(new FakeStream([2], Float32Array.of(5, 6)));
    expect(Array.from(written.read().dataSync())).toEqual([1, 2]);
    expect(Array.from(filled.read().dataSync())).toEqual([5, 6]);
    expect(calls()).toBe(0);
    tf.tidy(() => {
      expect(() => written.write(tf.tensor1d([1, 2, 3]))).toThrow('Shape mismatch');
    });
    written.dispose();
    filled.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('is filled in memory that moves while values are read', async () => {
    let memory = new Float32Array(3);
    registerFloat32Target('cpu', () => ({
      values: () => memory,
      moves: true,
      finish: () => tf.tensor(memory),
      abandon: () => {},
    }));
    const stream = new FakeStream([3], Float32Array.of(1, 2, 3));
    const weight = new Weight([3], 'w', counting()[0]);
    const filled = weight.fill(stream);
    memory = structuredClone(memory, {transfer: [memory.buffer]});
    await filled;
    registerFloat32Target('cpu', hostFloat32);
    expect(Array.from(weight.read().dataSync())).toEqual([1, 2, 3]);
    weight.dispose();
  });

  test('can be disposed while it is only declared', () => {
    const before = tf.memory();
    new Weight([1000, 1000], 'w', counting()[0]).dispose();
    hollow([3], 'int32').dispose();
    expect(tf.memory().numTensors).toBe(before.numTensors);
    expect(tf.memory().numDataBuffers).toBe(before.numDataBuffers);
  });

  test('reads in pieces', async () => {
    const length = PIECE + 3;
    const weight = new Weight([length], 'w', tf.initializers.zeros());
    const stream = new FakeStream(
      [length],
      Float32Array.from({length}, (_, i) => i % 1000),
    );
    await weight.fill(stream);
    expect(stream.reads).toEqual([
      [0, PIECE],
      [PIECE, 3],
    ]);
    const values = weight.read().dataSync();
    expect([values[0], values[PIECE - 1], values[PIECE], values[length - 1]]).toEqual(
      [0, PIECE - 1, PIECE, length - 1].map(i => i % 1000),
    );
    weight.dispose();
  });
});

describe('declared models', () => {
  const names = Object.keys(presets);

  test('there are 27 presets', () => {
    expect(names).toHaveLength(27);
  });

  test.each(names)('%s takes hardly any memory and has its published size', async name => {
    const before = tf.memory().numTensors;
    const memory = process.memoryUsage().rss;
    const backbone = await Gemma3Backbone.fromPreset(name, {loadWeights: false});
    expect(backbone.countParams()).toBe(presets[name]!.metadata.params);
    expect(process.memoryUsage().rss - memory).toBeLessThan(200 * 2 ** 20);
    backbone.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });
});
