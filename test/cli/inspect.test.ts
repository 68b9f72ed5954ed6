/** `gemma3 inspect`. */
import {copyFileSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {type PresetFacts} from '../../cli/support/preset_facts';
import {presets} from '../../src/hub/registry';
import {fixture} from '../support/fixtures';
import {run} from './run';

async function facts(preset: string): Promise<PresetFacts> {
  const {code, stdout, stderr} = await run(['inspect', preset, '--json']);
  expect({code, stderr}).toEqual({code: 0, stderr: ''});
  return JSON.parse(stdout) as PresetFacts;
}

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

describe('gemma3 inspect', () => {
  test('describes the preset in a folder', async () => {
    const before = tf.memory().numTensors;
    const found = await facts(fixture('backbone/post_norms'));
    expect(found).toMatchObject({format: 'single', source: fixture('backbone/post_norms'), problem: null});
    expect(found.config).toMatchObject({vocabulary_size: 64, num_layers: 2});
    expect(found.parameters).toBe(found.variables.reduce((sum, {shape}) => sum + size(shape), 0));
    expect(found.variables).toContainEqual({
      path: 'layers/gemma3_decoder_block_1/attention/query_dense/vars/0',
      shape: [2, 8, 4],
      dtype: 'float32',
      bytes: 256,
      file: 'model.weights.h5',
    });
    expect(found.files).toEqual([
      {name: 'model.weights.h5', variables: found.variables.length, bytes: 4 * found.parameters!},
    ]);
    expect(tf.memory().numTensors).toBe(before);
  });

  test('shows how much memory each dtype needs', async () => {
    const {memory, parameters} = await facts('gemma3_1b');
    // Norms are always stored as float32. Per 32 values, int8 has a scale of 2 bytes. int4 has a minimum as well, and
    // some kernels of int8: 5.5 bits together.
    expect(memory!.float32).toBe(4 * parameters!);
    for (const [dtype, bytes] of [
      ['bfloat16', 2],
      ['int8', 1 + 2 / 32],
      ['int4', 0.995 * (5.5 / 8)],
    ] as const) {
      expect(memory![dtype] / parameters! / bytes).toBeGreaterThan(1);
      expect(memory![dtype] / parameters! / bytes).toBeLessThan(1.01);
    }
  });

  test('shows how much memory a cache needs', async () => {
    const {cache} = await facts('gemma3_1b');
    // 26 blocks: every sixth caches all tokens, the others a window of 512.
    const bytes = (tokens: number) => 2 * 4 * 256 * (4 * tokens + 22 * Math.min(tokens, 512));
    expect(cache).toEqual([1024, 8192, 32768].map(tokens => ({tokens, bytes: bytes(tokens)})));
    expect((await run(['inspect', 'gemma3_1b'])).stdout).toMatch(
      /cache of one text, float32\n +1,024 tokens +\d+.*\n +8,192 tokens/,
    );
    const half = await run(['inspect', 'gemma3_1b', '--cache-dtype', 'bfloat16', '--json']);
    expect((JSON.parse(half.stdout) as PresetFacts).cache).toEqual(
      cache!.map(({tokens, bytes}) => ({tokens, bytes: bytes / 2})),
    );
  });

  test('reads several files', async () => {
    const found = await facts(fixture('backbone/sharded'));
    expect(found.format).toBe('sharded');
    expect(found.files.map(({name}) => name)).toEqual(['model_00000.weights.h5', 'model_00001.weights.h5']);
    expect(found.files.reduce((sum, {variables}) => sum + variables, 0)).toBe(found.variables.length);
  });

  test('needs no files for a preset name', async () => {
    const found = await facts('gemma3_1b');
    expect(found).toMatchObject({parameters: 999885952, source: null, format: null, files: [], problem: null});
    expect(found.memory!.float32).toBe(4 * 999885952);
    expect(found.variables).toContainEqual({
      path: 'token_embedding/embeddings',
      shape: [262144, 1152],
      dtype: null,
      bytes: null,
      file: null,
    });
  });

  test.each(Object.entries(presets))('describes %s from its name', async (name, {metadata, config}) => {
    const found = await facts(name);
    expect(found).toMatchObject({parameters: metadata.params, source: null, problem: null});
    const {float32, bfloat16, int8, int4} = found.memory!;
    // A vision encoder stays float32 when everything else is bfloat16.
    expect(float32).toBe(4 * metadata.params);
    expect(bfloat16 / float32).toBeLessThan(config.vision_encoder ? 0.6 : 0.501);
    expect(bfloat16 > int8 && int8 > int4).toBe(true);
    const {code, stdout} = await run(['inspect', name]);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`Parameters +${metadata.params.toLocaleString('en-US')}\n`));
    expect(stdout).toMatch(/Memory for the weights\n +float32 .*\n +bfloat16 .*\n +int8 .*\n +int4 /);
  });

  test('describes a preset that cannot be built', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gemma3-inspect-'));
    try {
      const config = {vocabulary_size: 8, num_layers: 0};
      writeFileSync(join(folder, 'config.json'), JSON.stringify({class_name: 'Gemma3Backbone', config}));
      const found = await facts(folder);
      expect(found).toMatchObject({config, format: null, parameters: null, memory: null, variables: []});
      expect(found.problem).toMatch(/numLayers/);
      const {code, stdout} = await run(['inspect', folder]);
      expect(code).toBe(0);
      expect(stdout).toMatch(/no weight files[^]*This version cannot build the model: /);
    } finally {
      rmSync(folder, {recursive: true});
    }
  });

  test('needs no weights in a folder', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gemma3-inspect-'));
    try {
      copyFileSync(join(fixture('backbone/post_norms'), 'config.json'), join(folder, 'config.json'));
      const [bare, whole] = [await facts(folder), await facts(fixture('backbone/post_norms'))];
      expect(bare).toMatchObject({format: null, files: [], parameters: whole.parameters, memory: whole.memory});
    } finally {
      rmSync(folder, {recursive: true});
    }
  });

  test.each([
    ['{', /Expected JSON in .*config\.json/],
    ['{"class_name": "Other", "config": {}}', /Expected a Gemma3Backbone in .*config\.json"\. Received: Other/],
    ['null', /config\.json" to hold a Keras object with class_name and config/],
  ])('refuses a config.json of %s', async (text, message) => {
    const folder = mkdtempSync(join(tmpdir(), 'gemma3-inspect-'));
    try {
      writeFileSync(join(folder, 'config.json'), text);
      const {code, stdout, stderr} = await run(['inspect', folder]);
      expect({code, stdout}).toEqual({code: 1, stdout: ''});
      expect(stderr).toMatch(message);
    } finally {
      rmSync(folder, {recursive: true});
    }
  });

  test('shows equal blocks once, or all with --variables', async () => {
    const short = await run(['inspect', fixture('backbone/post_norms')]);
    expect(short.stdout).toMatch(/ 2 × {2}gemma3_decoder_block_\*\/attention\/query_dense\/vars\/0 +\[2, 8, 4\]/);
    expect(short.stdout).toMatch(/Memory for the weights\n +float32 /);
    const long = await run(['inspect', fixture('backbone/post_norms'), '--variables']);
    expect(long.stdout).toContain('layers/gemma3_decoder_block_1/attention/query_dense/vars/0');
    expect(long.stdout).not.toContain('×');
  });
});

test('a GGUF file: types of tensors, and memory by dtype', async () => {
  const file = fixture('gguf/text_q8_0.gguf');
  const {code, stdout} = await run(['inspect', file]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/Format\s+GGUF, single, Q8_0, float32/);
  expect(stdout).toMatch(/7 ×\s+blk\.\*\.attn_q\.weight\s+\[64, 32\]\s+Q8_0/);
  const parts = await run(['inspect', fixture('gguf/parts-00001-of-00003.gguf'), '--json']);
  expect(JSON.parse(parts.stdout)).toMatchObject({format: 'sharded', title: 'GGUF', files: [{}, {}, {}]});
  const other = await run(['inspect', fixture('gguf/mmproj-tiny.gguf')]);
  expect([other.code, other.stderr]).toEqual([1, expect.stringMatching(/of "clip", which is a vision encoder/)]);
});
