/** Options that say how a preset is opened: `--header`, `--mmproj` and, for conversions, `--weights`. */
import {copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {Gemma3Backbone} from '../../src';
import {listPresetVariables} from '../../src/checkpoints/load_weights';
import {fixture, fixtureBytes, TINY_PRESET, tinyPicture} from '../support/fixtures';
import {withFiles} from '../support/file_server';
import {run, TINY} from './run';

const SECRET = 'Bearer secret-of-the-user';
const HEADER = ['--header', `Authorization: ${SECRET}`];
const MMPROJ = ['--mmproj', fixture('gguf/mmproj-tiny.gguf')];
let folder: string;
/** The model alone, without a vision encoder next to it. */
let model: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gemma3-opening-'));
  model = join(folder, 'model', 'tiny.gguf');
  mkdirSync(join(folder, 'model'));
  copyFileSync(fixture('gguf/tiny.gguf'), model);
});
afterAll(() => rmSync(folder, {recursive: true}));

const succeeds = async (args: string[], options?: Parameters<typeof run>[1]) => {
  const {code, stdout, stderr} = await run(args, options);
  expect({code, stderr}).toEqual({code: 0, stderr: ''});
  return stdout;
};

test('--mmproj: a question about a picture', async () => {
  const question = ['What is in this image? <start_of_image>', '--image', tinyPicture('red_circle'), '--strip-prompt'];
  expect(await succeeds(['generate', '--preset', model, ...MMPROJ, ...question])).toMatch(/A red circle\./);
  const {code, stderr} = await run(['generate', '--preset', model, ...question]);
  expect(code).toBe(1);
  expect(stderr).toContain('which is text-only');
  const turns = `/image ${tinyPicture('red_circle')}\nWhat is in this image?\n`;
  expect(await succeeds(['chat', '--preset', model, ...MMPROJ], {stdin: turns})).toMatch(/\S/);
});

test('--mmproj: what a model consists of, and in another format', async () => {
  const facts = JSON.parse(await succeeds(['inspect', model, ...MMPROJ, '--json'])) as {files: {name: string}[]};
  expect(facts.files.map(({name}) => name)).toEqual(['tiny.gguf', fixture('gguf/mmproj-tiny.gguf')]);
  const out = join(folder, 'keras');
  await succeeds(['convert', model, out, '--to', 'keras', ...MMPROJ]);
  expect((await listPresetVariables(out)).length).toBe((await listPresetVariables(TINY_PRESET)).length);
  for (const name of [TINY, 'gemma3_27b']) {
    const {code, stderr} = await run(['inspect', name, ...MMPROJ]);
    expect(code).toBe(1);
    expect(stderr).not.toBe('');
  }
});

test('--weights: a conversion with other weights', async () => {
  const [out, weights] = [join(folder, 'weights.gguf'), join(folder, 'other.weights.h5')];
  const backbone = await Gemma3Backbone.fromPreset(TINY_PRESET, {dtype: 'float32'});
  const weight = backbone.weights.find(({originalName}) => originalName.includes('token_embedding'))!;
  const values = weight.read();
  const other = values.mul(2);
  weight.write(other);
  await backbone.saveWeights(weights);
  await succeeds(['convert', TINY, out, '--weights', weights, '--dtype', 'f32']);
  const converted = await Gemma3Backbone.fromPreset(out);
  const [ours, theirs] = [converted.tokenEmbedding.embeddings.read(), other];
  expect(Array.from(await ours.data())).toEqual(Array.from(await theirs.data()));
  for (const one of [ours, theirs, values, backbone, converted]) one.dispose();
});

test('--header: of a preset at an address, and of what belongs to it there', async () => {
  const names = [
    'config.json',
    'tokenizer.json',
    'preprocessor.json',
    'task.json',
    'image_converter.json',
    'metadata.json',
  ];
  const all = [...names, 'model.weights.h5', 'assets/tokenizer/vocabulary.spm'].filter(name =>
    existsSync(join(TINY_PRESET, name)),
  );
  const files: Record<string, Uint8Array> = Object.fromEntries(
    all.map(name => [`tiny/${name}`, new Uint8Array(readFileSync(join(TINY_PRESET, name)))]),
  );
  files['a.gguf'] = fixtureBytes('gguf/tiny.gguf');
  files['m.gguf'] = fixtureBytes('gguf/mmproj-tiny.gguf');
  await withFiles(files, {authorization: SECRET}, async ({address}) => {
    const preset = `${address}/tiny`;
    const one = await succeeds(['generate', '--preset', preset, ...HEADER, 'What is the capital of France?']);
    expect(one).toContain('Paris');
    await succeeds(['embed', '--preset', preset, ...HEADER, 'x', '--json']);
    await succeeds(['inspect', preset, ...HEADER, '--json']);
    await succeeds(['inspect', `${address}/a.gguf`, '--mmproj', `${address}/m.gguf`, ...HEADER]);
    await succeeds(['bench', '--preset', preset, '--prompt', '1', '--tokens', '1', '--runs', '1', '--json', ...HEADER]);
    await succeeds(['convert', preset, join(folder, 'fetched'), '--to', 'tfjs', ...HEADER]);
    const {code, stderr} = await run(['inspect', preset]);
    expect(code).toBe(1);
    expect(stderr).toContain('401');
    const [data, output] = [join(folder, 'data.jsonl'), join(folder, 'tuned.lora.h5')];
    writeFileSync(data, '{"prompt": "a", "response": " b"}\n');
    const finetune = ['finetune', '--data', data, '--output', output, '--preset', preset, '--epochs', '1', '--json'];
    expect((await run([...finetune, ...HEADER])).code).toBe(0);
    // Reports keep the options that determine the losses.
    expect(readFileSync(join(folder, 'tuned.report.json'), 'utf8')).not.toMatch(/secret|header/i);
  });
});

test('--header: no message and no file shows what it says', async () => {
  for (const [header, why] of [
    ['secret-of-the-user', "expected 'Name: value'"],
    ['secret of the user: x', "expected 'Name: value'"],
    ['Authorization: secret-of-the-user-日本', 'Expected headers that can be sent'],
  ] as const) {
    const {code, stdout, stderr} = await run(['inspect', 'http://127.0.0.1:9/x', '--header', header]);
    expect(code).not.toBe(0);
    expect(stderr).toContain(why);
    expect(stdout + stderr).not.toMatch(/secret.of.the.user/);
  }
  for (const args of [
    ['inspect', TINY],
    ['download', 'https://user:secret-of-the-user@127.0.0.1/x'],
    ['inspect', 'https://user:secret-of-the-user@127.0.0.1/x'],
    ['inspect', 'http://127.0.0.1:9/x'],
  ]) {
    const {code, stdout, stderr} = await run([...args, ...HEADER], {debug: true});
    expect([args, code]).toEqual([args, 1]);
    expect(stdout + stderr).not.toMatch(/secret-of-the-user/);
  }
});
