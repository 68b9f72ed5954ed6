/** An engine that died or was disposed of is replaced by the next `useBackend`, and unusable options change nothing. */
import * as tf from '@tensorflow/tfjs';
import {useBackend} from '../../src';
import {type SimdEngine} from '../../src/backends/simd/engine/simd_engine';
import {type SimdBackend} from '../../src/backends/simd/memory/simd_backend';
import {type Thread} from '../../src/platform/contract';
import {smallModel, someTokens} from '../support/small_model';

const engine = (): SimdEngine => (tf.backend() as unknown as SimdBackend).engine;

/** Ends a thread, as a browser or an operating system that is short of memory does. */
async function killThread(): Promise<void> {
  const [worker] = (engine() as unknown as {workers: Thread[]}).workers;
  await worker!.kill();
  await worker!.ended;
}

const product = () => tf.tidy(() => tf.argMax(tf.tensor2d([[1, 5, 3]]), 1).dataSync()[0]);

beforeEach(async () => {
  await useBackend('simd', {threads: 2});
});
afterAll(() => tf.removeBackend('simd'));

describe('after a thread has died', () => {
  test.each(['auto', 'simd'] as const)('useBackend(%p) starts an engine with the same options', async name => {
    const dead = engine();
    await killThread();
    expect(dead.alive).toBe(false);
    expect(product).toThrow(/died.*Call `await useBackend\(\)` to start a new engine/);
    await useBackend(name);
    expect(engine()).not.toBe(dead);
    expect([engine().threads, engine().alive]).toEqual([2, true]);
    expect(product()).toBe(1);
  });

  test('models from before compute the same numbers on the new engine', async () => {
    const model = smallModel();
    const tokenIds = tf.tensor2d([someTokens(12, 1)], undefined, 'int32');
    const logits = () => {
      const y = model.score({tokenIds});
      const values = y.dataSync();
      y.dispose();
      return values;
    };
    const before = logits();
    const tensors = tf.memory().numTensors;
    await killThread();
    expect(logits).toThrow('died');
    await useBackend();
    expect(logits()).toEqual(before);
    expect(tf.memory().numTensors).toBe(tensors);
    model.dispose();
    tokenIds.dispose();
  });

  test('tfjs itself refuses the old engine, and says what to do', async () => {
    await killThread();
    await tf.setBackend('cpu');
    await tf.setBackend('simd');
    expect(product).toThrow('useBackend');
    await useBackend();
    expect(product()).toBe(1);
  });
});

test('tf.engine().reset() disposes of the engine, and useBackend starts a new one', async () => {
  const old = engine();
  tf.engine().reset();
  await tf.setBackend('simd');
  expect(product).toThrow(/disposed of.*tf\.engine\(\)\.reset\(\).*useBackend/);
  await useBackend();
  expect(engine()).not.toBe(old);
  expect([engine().threads, product()]).toEqual([2, 1]);
  const model = smallModel();
  const y = model.backbone.predict({token_ids: [[5, 6]], padding_mask: [[1, 1]]}) as tf.Tensor;
  expect(y.shape).toEqual([1, 2, 16]);
  y.dispose();
  model.dispose();
});

test('tf.removeBackend disposes of the engine, and useBackend starts a new one', async () => {
  const old = engine();
  tf.removeBackend('simd');
  expect(old.alive).toBe(false);
  await useBackend('simd');
  expect(engine()).not.toBe(old);
  expect([engine().threads, product()]).toEqual([2, 1]);
});

test('calls at the same time create one engine', async () => {
  const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
  tf.removeBackend('simd');
  await Promise.all([useBackend('simd'), useBackend('simd'), useBackend()]);
  expect(product()).toBe(1);
  expect(warn).not.toHaveBeenCalled();
  warn.mockRestore();
});

test.each([0, 33, 1000, -1, 1.5, NaN, Infinity, '4', null])(
  'refuses threads: %p and keeps the engine',
  async threads => {
    const old = engine();
    const received = typeof threads === 'string' ? `"${threads}"` : String(threads);
    await expect(useBackend('simd', {threads: threads as number})).rejects.toMatchObject({
      name: 'ValueError',
      message: expect.stringContaining(`whole number from 1 to 32. Received: threads=${received}. Leave it out`),
    });
    expect(engine()).toBe(old);
    expect(product()).toBe(1);
  },
);

test('refuses switches that are not true or false', async () => {
  const old = engine();
  await expect(useBackend('simd', {relaxed: 'no' as never})).rejects.toThrow('`relaxed` to be true or false');
  await expect(useBackend('simd', {wide: 1 as never})).rejects.toThrow('`wide` to be true or false');
  expect(engine()).toBe(old);
});

test('an engine that cannot be created leaves the old one in use', async () => {
  const old = engine();
  const compile = jest.spyOn(WebAssembly, 'compile').mockRejectedValue(new Error('no memory for code'));
  await expect(useBackend('simd', {threads: 1})).rejects.toThrow('no memory for code');
  compile.mockRestore();
  expect(engine()).toBe(old);
  expect(product()).toBe(1);
});
