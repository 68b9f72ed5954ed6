/** The backend `cuda` itself: what it is called, what it refuses, int8, errors, and memory. */
import fs, {copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {describeBackends, useBackend} from '../../src';
import {backendInUse} from '../../src/backends/use_backend';
import {openBinding} from '../../src/backends/cuda/native/binding';
import {BINDING, findInstalled, folderOf, PACKAGE, recordOf} from '../../src/backends/cuda/native/place';
import {loadTfjsNode, type StockBackend} from '../../src/backends/cuda/native/tfjs_node';
import {cudaDetails, isPreferred, whyNoCuda} from '../../src/backends/cuda/use_cuda';
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

  /** Runs with another folder of set-ups, which is made for it. */
  async function withFolder(run: (root: string) => Promise<void>): Promise<void> {
    const root = mkdtempSync(join(tmpdir(), 'program-'));
    const {GEMMA3_CUDA_FOLDER, GEMMA3_CUDA_DEVICE} = process.env;
    Object.assign(process.env, {GEMMA3_CUDA_FOLDER: root});
    delete process.env.GEMMA3_CUDA_DEVICE;
    try {
      await run(root);
    } finally {
      for (const [name, value] of Object.entries({GEMMA3_CUDA_FOLDER, GEMMA3_CUDA_DEVICE})) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
      jest.restoreAllMocks();
      rmSync(root, {recursive: true});
    }
  }

  /** The binding of what is set up, in another folder. */
  function placeBinding(folder: string, target: string): void {
    mkdirSync(target, {recursive: true});
    copyFileSync(join(folder, BINDING), join(target, BINDING));
    symlinkSync(join(folder, 'tensorflow'), join(target, 'tensorflow'));
  }

  test('a package of tfjs whose binding works is found where the program runs, without a set-up', async () => {
    const {folder} = findInstalled()!;
    await withFolder(async root => {
      const own = join(root, 'node_modules', '@tensorflow', 'tfjs-node');
      placeBinding(folder, join(own, 'lib', 'napi-v8'));
      writeFileSync(join(own, 'package.json'), '{"name": "@tensorflow/tfjs-node", "version": "4.22.0"}');
      jest.spyOn(process, 'cwd').mockReturnValue(root);
      expect(await cudaDetails()).toMatch(/TensorFlow \d+\.\d+\.\d+, from the package "@tensorflow\/tfjs-node"/);
      expect(await whyNoCuda()).toBeUndefined();
      // TensorFlow's build for CPUs is for tests.
      expect(isPreferred()).toBe(false);
    });
  });

  test('"auto" takes another backend where no GPU answers; by name, what is missing is said', async () => {
    const {folder, variant} = findInstalled()!;
    // Only on a machine without a GPU: the build for CPUs stands for the other one, and a driver is made up.
    if (variant === 'gpu' || existsSync('/proc/driver/nvidia')) return;
    const previous = tf.getBackend();
    await withFolder(async root => {
      placeBinding(folder, folderOf('gpu', root));
      writeFileSync(recordOf(folderOf('gpu', root)), '{"tensorflow": "2.21.0"}');
      const real = fs.existsSync;
      jest.spyOn(fs, 'existsSync').mockImplementation(path => path === '/proc/driver/nvidia/version' || real(path));
      const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
      expect(isPreferred()).toBe(true);
      await expect(useBackend('cuda')).rejects.toThrow(
        /no GPU answers\. Missing: libcuda\.so\.1, .*install nvidia-driver\. Run `npx gemma3 setup-cuda --remove`/,
      );
      expect(await useBackend('auto')).toBe('simd');
      warn.mockRestore();
    });
    await tf.setBackend(previous);
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
    // Kernels without values are not packed yet.
    lm.backbone.getWeights();
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
