/** The backend `cuda` itself: what it is called, what it refuses, int8, errors, and memory. */
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {describeBackends, useBackend} from '../../src';
import {backendInUse} from '../../src/backends/use_backend';
import {openBinding} from '../../src/backends/cuda/native/binding';
import {BINDING, findInstalled, PACKAGE} from '../../src/backends/cuda/native/place';
import {loadTfjsNode, type StockBackend} from '../../src/backends/cuda/native/tfjs_node';
import {embedding} from '../../src/ops/embedding';
import {PackedWeight} from '../../src/weights/packed_weight';
import {cudaDevice, describeCuda, useCuda} from '../support/cuda';
import {normal} from '../support/random';
import {smallModel} from '../support/small_model';

describeCuda('the backend cuda', () => {
  test('is described without being loaded', async () => {
    const {available, details} = (await describeBackends()).find(({name}) => name === 'cuda')!;
    expect({available, details}).toEqual({
      available: true,
      details: expect.stringMatching(/which is loaded when/) as string,
    });
    expect(details).toMatch(/TensorFlow \d+\.\d+\.\d+, from gemma3 setup-cuda/);
    expect(tf.findBackendFactory('tensorflow')).toBeFalsy();
  });
});

describeCuda('the backend cuda', () => {
  beforeAll(async () => void (await useCuda()));

  test('is the backend "tensorflow" of tfjs, and says which device it has', async () => {
    expect(await useBackend('cuda')).toBe('cuda');
    expect(tf.getBackend()).toBe('tensorflow');
    expect(backendInUse()).toBe('cuda');
    const {available, details} = (await describeBackends()).find(({name}) => name === 'cuda')!;
    const device = (tf.backend() as StockBackend).isUsingGpuDevice ? /^(?!no GPU)/ : /^no GPU: the CPU of this machine/;
    expect({available, details}).toEqual({available: true, details: expect.stringMatching(device) as string});
    expect(details).toMatch(/TensorFlow \d+\.\d+\.\d+, from gemma3 setup-cuda/);
  });

  test('takes a backend that the program has registered itself, as importing tfjs-node does', async () => {
    await tf.setBackend('cpu');
    tf.removeBackend('tensorflow');
    const {folder} = findInstalled()!;
    // tfjs warns that the kernels of tfjs-node are registered already.
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
    const Stock = loadTfjsNode(join(folder, PACKAGE));
    const own = new Stock(openBinding(join(folder, BINDING)), '@tensorflow/tfjs-node');
    warn.mockRestore();
    tf.registerBackend('tensorflow', () => own, 3);
    await useBackend('cuda');
    expect(tf.backend()).toBe(own);
    const weight = new PackedWeight([8, 32], {out: [0], in: [1]}, 'w', tf.initializers.ones());
    const y = tf.tidy(() => weight.matMul(tf.ones<tf.Rank.R2>([1, 32])));
    expect(Array.from(y.dataSync())).toEqual(Array(8).fill(32));
    y.dispose();
    weight.dispose();
  });

  test('takes no options', async () => {
    await expect(useBackend('cuda', {threads: 2} as object)).rejects.toThrow(
      /Backend "cuda" has no argument "threads"/,
    );
  });

  test('refuses int4, with what to do', async () => {
    const format = 'int4';
    const weight = new PackedWeight([8, 32], {out: [0], in: [1]}, 'w', tf.initializers.zeros(), true, format);
    const message = new RegExp(`The backend "cuda" cannot pack weights as ${format}\\. Use dtype "int8"`);
    const values = normal([8, 32], 1);
    await expect(weight.fillFromTensor(values)).rejects.toThrow(message);
    expect(() => weight.write(values)).toThrow(message);
    const lm = smallModel();
    tf.dispose(lm.backbone.getWeights());
    await expect(lm.quantize(format)).rejects.toThrow(message);
    lm.dispose();
    weight.dispose();
    values.dispose();
  });

  test('weights on it are refused on other backends', async () => {
    const weight = new PackedWeight([8, 32], {out: [0], in: [1]}, 'w', tf.initializers.zeros());
    weight.initialize();
    await tf.setBackend('cpu');
    const x = tf.ones<tf.Rank.R2>([1, 32]);
    expect(() => weight.matMul(x)).toThrow(
      /Expected the backend "cuda", on which these weights are\. Received: .*"cpu"/,
    );
    x.dispose();
    await useBackend('cuda');
    weight.dispose();
  });

  test('a session gives the texts of whole prompts, beyond the window too', async () => {
    const lm = smallModel();
    const some = {maxNewTokens: 9, stopTokenIds: null, stripPrompt: true};
    const session = lm.startSession({maxLength: 60});
    const first = await session.generate('The quick brown', some);
    const prompt = `The quick brown${first} fox`;
    const second = await session.generate(prompt, some);
    expect(session.reused).toBeGreaterThan(0);
    session.dispose();
    expect([first, second]).toEqual([await lm.generate('The quick brown', some), await lm.generate(prompt, some)]);
    lm.dispose();
  });

  test('texts leave nothing on the device', async () => {
    const lm = smallModel();
    const {binding} = cudaDevice();
    const counts: number[] = [];
    for (let turn = 0; turn < 5; turn++) {
      for (let i = 0; i < 4; i++) await lm.generate(['Hi', 'What is this'], {maxNewTokens: 12, stopTokenIds: null});
      counts.push(binding.getNumOfTensors());
    }
    expect(counts[4]).toBe(counts[2]);
    lm.dispose();
    expect(binding.getNumOfTensors()).toBeLessThan(counts[4]!);
  });

  test('errors of TensorFlow are errors, with its text', () => {
    const {binding} = cudaDevice();
    expect(() => binding.executeOp('NoSuchOperation', [], [], 1)).toThrow(
      /TensorFlow refused the operation "NoSuchOperation": .*NoSuchOperation/,
    );
  });

  test('token ids that do not exist are refused', () => {
    const table = normal([4, 3], 1);
    for (const ids of [tf.tensor1d([0, 4], 'int32'), tf.tensor2d([[-1]], undefined, 'int32')]) {
      expect(() => embedding(ids, table)).toThrow(/token ids/);
      ids.dispose();
    }
    table.dispose();
  });
});
