/** `gemma3 convert`. */
import {existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {type ConvertedPreset, Gemma3CausalLM, useBackend} from '../../src';
import {folderHandler} from '../../src/public/files';
import {run, TINY} from './run';

describe('gemma3 convert', () => {
  const root = mkdtempSync(join(tmpdir(), 'gemma3-convert-'));
  let count = 0;
  const fresh = () => join(root, `out${count++}`);
  afterAll(() => rmSync(root, {recursive: true}));

  test.each([
    ['tfjs', 'int4', ['--shard-size', '0.1']],
    ['tfjs', 'bfloat16', []],
    ['keras', 'float32', ['--max-shard-size', '0.002']],
    ['keras', 'bfloat16', []],
  ])('to %s as %s', async (to, dtype, more) => {
    const out = fresh();
    const before = tf.memory().numTensors;
    const {code, stdout, stderr} = await run(['convert', TINY, out, '--to', to, '--dtype', dtype, ...more, '--json']);
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
    const result = JSON.parse(stdout) as ConvertedPreset;
    expect(result).toMatchObject({preset: TINY, out, to, dtype, parameters: 1275712, seconds: expect.any(Number)});
    expect(result.bytes).toBeGreaterThan(5e5);
    expect(result.files).toEqual(expect.arrayContaining(['config.json', 'task.json', 'tokenizer.json']));
    for (const file of result.files) expect(existsSync(join(out, file))).toBe(true);
    expect(result.files.filter(file => /\.(h5|bin)$/.test(file)).length > 1).toBe(more.length > 0);
    expect(tf.memory().numTensors).toBe(before);

    const lm = await Gemma3CausalLM.fromPreset(out);
    expect(lm.backbone.config.dtype).toBe(dtype);
    lm.dispose();
    const inspected = await run(['inspect', out]);
    expect(inspected.stdout).toMatch(to === 'tfjs' ? `TensorFlow.js, ${dtype}` : 'Keras HDF5');
  });

  test('prints a summary', async () => {
    await useBackend();
    const out = fresh();
    const {code, stdout} = await run(['convert', TINY, out, '--to', 'tfjs', '--dtype', 'int8']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/out\d+: 1,275,712 parameters as int8, [\d.]+ MB of weights in \d+ files, [\d.]+ s\n/);
    const model = await tf.loadLayersModel(folderHandler(out));
    expect(model.countParams()).toBe(1275712);
    model.dispose();
  });

  test('replaces files only with --force', async () => {
    const out = fresh();
    mkdirSync(out);
    const convert = (...more: string[]) => run(['convert', TINY, out, '--to', 'keras', ...more]);
    expect((await convert()).code).toBe(0);
    const {code, stderr} = await convert();
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^error: Expected an empty folder, or one that does not exist\. Received: ".*"\. Use --force/,
    );
    writeFileSync(join(out, 'notes.txt'), 'mine');
    expect((await convert('--force', '--max-shard-size', '0.002')).code).toBe(0);
    expect(readdirSync(out)).toContain('notes.txt');
    expect(readdirSync(out)).not.toContain('model.weights.h5');
    // Source and target are the same folder.
    expect((await run(['convert', out, out, '--to', 'tfjs', '--force'])).code).toBe(0);
    expect(readdirSync(out).some(name => name.endsWith('.h5'))).toBe(false);
    (await Gemma3CausalLM.fromPreset(out)).dispose();
  });

  test('leaves no files when interrupted', async () => {
    const folder = join(root, 'interrupted');
    mkdirSync(folder);
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('Interrupted.')), 5);
    const {code, stdout} = await run(['convert', TINY, join(folder, 'x'), '--to', 'tfjs', '--dtype', 'int8'], {
      signal: controller.signal,
    });
    expect({code, stdout}).toEqual({code: 130, stdout: ''});
    expect(readdirSync(folder)).toEqual([]);
  });

  test.each([
    [['--to', 'keras', '--dtype', 'int8'], "option '--dtype int8' needs '--to tfjs'"],
    [['--to', 'keras', '--shard-size', '1'], "'--shard-size' has no effect with '--to keras'"],
    [['--to', 'tfjs', '--max-shard-size', '1'], "'--max-shard-size' has no effect with '--to tfjs'"],
    [['--to', 'tfjs', '--shard-size', '-1'], 'Expected a number above 0'],
    [['--to', 'onnx'], "argument 'onnx' is invalid"],
    [[], "required option '--to <FORMAT>' not specified"],
  ])('refuses %s', async (options, message) => {
    const out = fresh();
    const {code, stdout, stderr} = await run(['convert', TINY, out, ...options]);
    expect({code, stdout}).toEqual({code: 2, stdout: ''});
    expect(stderr).toContain(message);
    expect(existsSync(out)).toBe(false);
  });

  test('says why a preset cannot be read', async () => {
    const {code, stderr} = await run(['convert', join(root, 'nowhere'), fresh(), '--to', 'tfjs']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: Expected a preset: /);
  });
});
