/** Converted presets, compared with the original preset loaded in the same dtype. */
import {createServer, type Server} from 'node:http';
import {mkdtempSync, readdirSync, readFileSync, rmSync, statSync} from 'node:fs';
import {type AddressInfo} from 'node:net';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {convertPreset, Gemma3Backbone, Gemma3CausalLM, Gemma3CausalLMPreprocessor, useBackend} from '../../src';
import {folderHandler, MemoryPreset, openPreset} from '../../src/public/files';
import {listPresetVariables} from '../../src/public/weights';
import {fixture, fixtureNames, TINY_PRESET} from '../support/fixtures';
import {rejection} from '../support/hdf5_files';
import {expectNoLeak, take} from '../support/numbers';

const root = mkdtempSync(join(tmpdir(), 'convert-'));
afterAll(() => rmSync(root, {recursive: true}));

type Model = Gemma3Backbone | Gemma3CausalLM;

/** Rows of text and, for a model with vision, one image. */
async function predict(model: Model): Promise<number[]> {
  const inputs: Record<string, tf.Tensor> = {
    token_ids: tf.tensor2d([Array.from({length: 20}, (_, i) => (7 * i) % 60)], [1, 20], 'int32'),
    padding_mask: tf.ones([1, 20], 'int32'),
  };
  if (model.inputs.length > 2) {
    inputs.images = tf.tidy(() => tf.linspace(-1, 1, 64 * 64 * 3).reshape([1, 1, 64, 64, 3]));
    inputs.vision_indices = tf.tensor2d([Array.from({length: 16}, (_, i) => i + 1)], [1, 16], 'int32');
    inputs.vision_mask = tf.tensor2d([Array.from({length: 20}, (_, i) => Number(i > 0 && i < 17))], [1, 20], 'int32');
  }
  const outputs = model.predict(inputs) as tf.Tensor | Record<string, tf.Tensor>;
  const values = [];
  for (const output of outputs instanceof tf.Tensor ? [outputs] : Object.values(outputs)) {
    values.push(...(await take(output)));
  }
  tf.dispose(inputs);
  return values;
}

const folderBytes = (folder: string) =>
  readdirSync(folder)
    .filter(name => name.endsWith('.bin'))
    .reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);

beforeAll(async () => {
  await useBackend('simd');
});

describe.each(['float32', 'bfloat16', 'int8', 'int4'] as const)('to tfjs as %s', dtype => {
  const folder = join(root, `tiny-${dtype}`);
  let expected: number[];
  let bytes: number;

  beforeAll(async () => {
    await expectNoLeak(async () => {
      const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET, {dtype});
      expected = await predict(lm);
      bytes = (lm.weights as unknown as {byteLength: number}[]).reduce((sum, weight) => sum + weight.byteLength, 0);
      lm.dispose();
      const result = await convertPreset(TINY_PRESET, folder, {to: 'tfjs', dtype, shardSize: 300_000});
      expect(result).toMatchObject({dtype, parameters: 1275712, bytes: folderBytes(folder)});
    });
  });

  test('is as small as the dtype allows, in files of the requested size', () => {
    const found = folderBytes(folder);
    expect(found).toBeLessThanOrEqual(bytes);
    expect(found).toBeGreaterThan(0.95 * bytes);
    const sizes = readdirSync(folder)
      .filter(name => name.endsWith('.bin'))
      .map(name => statSync(join(folder, name)).size);
    expect(Math.max(...sizes)).toBe(300_000);
    expect(sizes.length).toBe(Math.ceil(found / 300_000));
  });

  test('opens with tf.loadLayersModel, from a handler, a file address and a server', async () => {
    const server = await serve(folder);
    const {port} = server.address() as AddressInfo;
    const places = [folderHandler(folder), `file://${folder}/model.json`, `http://127.0.0.1:${port}/model.json`];
    try {
      for (const place of places) {
        await expectNoLeak(async () => {
          const model = (await tf.loadLayersModel(place)) as unknown as Gemma3CausalLM;
          expect(model).toBeInstanceOf(Gemma3CausalLM);
          expect(await predict(model)).toEqual(expected);
          model.preprocessor = await Gemma3CausalLMPreprocessor.fromPreset(folder);
          expect(await model.generate('The', {maxLength: 6})).toContain('The');
          model.dispose();
        });
      }
    } finally {
      server.close();
    }
  });

  test('is a preset', async () => {
    await expectNoLeak(async () => {
      const reported: number[] = [];
      const lm = await Gemma3CausalLM.fromPreset(folder, {
        onProgress: ({loaded, total}) => reported.push(loaded / total),
      });
      expect(lm.backbone.config.dtype).toBe(dtype);
      expect(await predict(lm)).toEqual(expected);
      expect(reported.at(-1)).toBe(1);
      lm.dispose();
    });
    const variables = await listPresetVariables(await openPreset(folder));
    const embedding = variables.find(({path}) => path === 'token_embedding/embeddings');
    expect(embedding).toMatchObject({shape: [2048, 128], dtype});
  });

  test('opens on another backend', async () => {
    const preset = new MemoryPreset();
    await convertPreset(fixture('backbone/post_norms'), preset, {to: 'tfjs', dtype});
    const here = await Gemma3Backbone.fromPreset(preset);
    const values = await predict(here);
    here.dispose();
    await useBackend('cpu');
    try {
      const model = (await tf.loadLayersModel(folderHandler(preset))) as unknown as Gemma3Backbone;
      // Kernels for integers also round the activations; those of the cpu backend do not.
      expect(await predict(model)).toBeAllClose(values, {atol: dtype.startsWith('int') ? 0.1 : 1e-4});
      model.dispose();
    } finally {
      await useBackend('simd');
    }
  });

  test('is saved by tfjs in its stored form, and can be read back', async () => {
    const lm = await Gemma3CausalLM.fromPreset(folder);
    const again = join(root, `again-${dtype}`);
    await expectNoLeak(async () => {
      await lm.save(`file://${again}`);
      await lm.save(folderHandler(again));
    });
    expect(folderBytes(again)).toBe(folderBytes(folder));
    const model = (await tf.loadLayersModel(folderHandler(again))) as unknown as Gemma3CausalLM;
    expect(await predict(model)).toEqual(expected);
    for (const each of [lm, model]) each.dispose();
  });
});

function serve(folder: string): Promise<Server> {
  const server = createServer(({url}, response) => response.end(readFileSync(join(folder, url!))));
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server)));
}

describe('from tfjs', () => {
  test('floats load with another dtype, and are converted back to Keras bit for bit', async () => {
    const folder = join(root, 'tiny-bfloat16');
    const preset = new MemoryPreset();
    await convertPreset(folder, preset, {to: 'keras'});
    expect(preset.files.get('model.weights.h5')!.length).toBeGreaterThan(2.5e6);
    for (const dtype of ['float32', 'int8'] as const) {
      const models = [];
      for (const source of [TINY_PRESET, folder, preset]) models.push(await Gemma3CausalLM.fromPreset(source, {dtype}));
      const [first, ...rest] = await Promise.all(models.map(predict));
      for (const values of rest) expect(values).toEqual(first);
      models.forEach(model => model.dispose());
    }
  });

  test('integers cannot be loaded or converted with another dtype', async () => {
    const folder = join(root, 'tiny-int8');
    expect(await rejection(Gemma3CausalLM.fromPreset(folder, {dtype: 'bfloat16'}))).toMatch(
      /is stored as int8: load it with dtype "int8", or convert it again/,
    );
    expect(await rejection(convertPreset(folder, join(root, 'x'), {to: 'keras', dtype: 'float32'}))).toMatch(
      /Expected a preset with floating-point weights.*weights as int8/,
    );
  });
});

describe('to keras', () => {
  test('writes what saveToPreset writes', async () => {
    for (const dtype of ['float32', 'bfloat16', undefined] as const) {
      const converted = new MemoryPreset();
      const saved = new MemoryPreset();
      await convertPreset(TINY_PRESET, converted, {to: 'keras', dtype, maxShardSize: 0.001});
      const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
      await lm.saveToPreset(saved, {dtype, maxShardSize: 0.001});
      lm.dispose();
      expect([...converted.files.keys()].sort()).toEqual([...saved.files.keys()].sort());
      for (const [path, bytes] of converted.files) {
        if (path === 'metadata.json') continue;
        const other = saved.files.get(path)!;
        // Models get numbered names here, but a task that is copied keeps its name.
        const tree = (file: Uint8Array) =>
          JSON.parse(
            Buffer.from(file)
              .toString()
              .replace(/causal_lm_\d+/, 'causal_lm'),
          ) as object;
        if (path.endsWith('.json')) expect(tree(bytes)).toEqual(tree(other));
        else expect(Buffer.compare(bytes, other)).toBe(0);
      }
    }
  });

  test.each(fixtureNames('backbone'))('%s, converted to tfjs and back', async name => {
    const source = fixture(`backbone/${name}`);
    const [tfjs, keras] = [new MemoryPreset(), new MemoryPreset()];
    await convertPreset(source, tfjs, {to: 'tfjs'});
    await convertPreset(tfjs, keras, {to: 'keras'});
    const models = [];
    for (const preset of [source, tfjs, keras]) models.push(await Gemma3Backbone.fromPreset(preset));
    models.push((await tf.loadLayersModel(folderHandler(tfjs))) as unknown as Gemma3Backbone);
    const [first, ...rest] = await Promise.all(models.map(predict));
    for (const values of rest) expect(values).toEqual(first);
    models.forEach(model => model.dispose());
  });
});

describe('errors', () => {
  const convert = (options: object, source = TINY_PRESET) =>
    rejection(convertPreset(source, join(root, 'none'), options as {to: 'tfjs'}));

  afterEach(() => expect(readdirSync(root).filter(name => /none|saving/.test(name))).toEqual([]));

  test('options', async () => {
    expect(await convert({to: 'onnx'})).toContain(
      'Expected to: "keras", "tfjs", "gguf" or "huggingface". Received: "onnx"',
    );
    expect(await convert({to: 'keras', dtype: 'int8'})).toContain('Writing quantized weights');
    expect(await convert({to: 'tfjs', dtype: 'float16'})).toContain('Expected dtype to be one of float32');
    expect(await convert({to: 'tfjs', shardSize: 0})).toContain('Expected shardSize to be above 0');
    expect(await convert({to: 'tfjs', shardSize: 1.5})).toContain('a whole number of bytes. Received: 1.5');
    expect(await convert({to: 'tfjs', maxShardSize: 1})).toContain('Received: maxShardSize, an option of "keras"');
    expect(await convert({to: 'tfjs', size: 1})).toContain('no argument "size"');
  });

  test('weights that do not fit, and missing weights', async () => {
    const broken = new MemoryPreset();
    await convertPreset(TINY_PRESET, broken, {to: 'tfjs'});
    const shard = [...broken.files.keys()].find(path => path.endsWith('.bin'))!;
    broken.files.set(shard, broken.files.get(shard)!.slice(4));
    expect(await convert({to: 'keras'}, broken as never)).toMatch(
      /Expected \d+ bytes of weights in group1-shard1of1.bin/,
    );
    broken.files.delete('model.json');
    expect(await convert({to: 'keras'}, broken as never)).toContain('Expected "model.weights.h5" or');
    broken.files.set('model.json', new TextEncoder().encode('{}'));
    expect(await convert({to: 'keras'}, broken as never)).toContain('Expected a weightsManifest');
  });

  test('aborted', async () => {
    await expectNoLeak(async () => {
      for (const [to, dtype] of [
        ['keras', 'float32'],
        ['tfjs', 'int8'],
        ['tfjs', 'bfloat16'],
      ] as const) {
        const controller = new AbortController();
        const onProgress = () => controller.abort(new Error('enough'));
        expect(await convert({to, dtype, signal: controller.signal, onProgress})).toBe('enough');
      }
    });
  });
});
