/**
 * The GGUF file of the real Gemma 3 270M, against the Keras preset that was converted from it, whose weights
 * test/reference/check_real_preset.py compares with those that Python reads.
 */
import {existsSync} from 'node:fs';
import {convertPreset, Gemma3Backbone, Gemma3CausalLM, Gemma3Tokenizer, useBackend} from '../../src';
import {MemorySource} from '../../src/base/byte_source';
import {sizeOf} from '../../src/base/shapes';
import {checkVariables} from '../../src/checkpoints/load_weights';
import {kerasPaths} from '../../src/checkpoints/model_paths';
import {openCheckpoint} from '../../src/checkpoints/open_checkpoint';
import {valueReader} from '../../src/checkpoints/stored_weights';
import {Hdf5File} from '../../src/formats/hdf5';
import {openFileSource} from '../../src/files/open_file';
import {MemoryPreset} from '../../src/public/files';
import {PIECE} from '../../src/weights/value_stream';
import {type Expected, readExpected} from '../support/tokenizer_fixtures';
import {readOracle, REAL_PRESET} from './real_preset';

const GGUF = `${REAL_PRESET}.gguf`;

beforeAll(async () => {
  if (!existsSync(GGUF)) throw new Error(`Run npm run fetch:270m first: there is no ${GGUF}.`);
  await useBackend('simd');
});

test('its vocabulary gives the ids of sentencepiece', async () => {
  const tokenizer = await Gemma3Tokenizer.fromPreset(GGUF);
  const {texts, sequences} = readExpected<Expected>('real_270m.json');
  for (const [text, ids, decoded] of texts) {
    expect(tokenizer.tokenize(text)).toEqual(ids);
    expect(tokenizer.detokenize(ids)).toBe(decoded);
  }
  for (const [ids, decoded] of sequences) expect(tokenizer.detokenize(ids)).toBe(decoded);
});

test('its configuration is that of the preset', async () => {
  const [file, preset] = await Promise.all([openCheckpoint(GGUF), openCheckpoint(REAL_PRESET)]);
  for (const part of ['backbone', 'task', 'preprocessor', 'tokenizer', 'imageConverter'] as const) {
    expect(await file.config(part)).toEqual(await preset.config(part));
  }
  await Promise.all([file.close(), preset.close()]);
});

test('every weight has the bits of the preset', async () => {
  const backbone = await Gemma3Backbone.fromPreset(GGUF, {loadWeights: false});
  const [file, preset] = await Promise.all([openCheckpoint(GGUF), openCheckpoint(REAL_PRESET)]);
  const [ours, theirs] = await Promise.all([file.weights(), preset.weights()]);
  checkVariables(backbone, ours, file);
  const [openOurs, openTheirs] = [valueReader(ours), valueReader(theirs)];
  const different: string[] = [];
  for (const [path, weight] of kerasPaths(backbone)) {
    const [a, b] = [openOurs(weight, path), openTheirs(weight, path)];
    const size = sizeOf(weight.shape);
    for (let start = 0; start < size; start += PIECE) {
      const count = Math.min(PIECE, size - start);
      const left = Buffer.from((await a.readBfloat16(start, count)).slice().buffer);
      const right = Buffer.from((await b.readBfloat16(start, count)).slice().buffer);
      if (Buffer.compare(left, right) !== 0) different.push(weight.originalName);
    }
  }
  expect(different).toEqual([]);
  await Promise.all([ours.close(), theirs.close()]);
  await Promise.all([file.close(), preset.close()]);
  backbone.dispose();
});

test('it writes what KerasHub has written for the same prompts', async () => {
  const lm = await Gemma3CausalLM.fromPreset(GGUF);
  const {prompts, maxLength} = readOracle();
  for (const {prompt, text} of prompts) expect(await lm.generate(prompt, {maxLength, stripPrompt: false})).toBe(text);
  lm.dispose();
});

test('converted to Keras, all variables have the same bytes as in the preset', async () => {
  const target = new MemoryPreset();
  await convertPreset(GGUF, target, {to: 'keras'});
  const converted = await Hdf5File.open(new MemorySource('converted', target.files.get('model.weights.h5')!));
  const original = await Hdf5File.open(await openFileSource(`${REAL_PRESET}/model.weights.h5`));
  const names = [...original.paths()].filter(
    path => /^layers\/.*vars\/\d+$/.test(path) && !/seed_generator/.test(path),
  );
  expect(names).toHaveLength(236);
  for (const name of names) {
    const [a, b] = [converted.dataset(name)!, original.dataset(name)!];
    expect([a.shape, a.dtype]).toEqual([b.shape, b.dtype]);
    const [left, right] = [new Uint8Array(a.byteLength), new Uint8Array(b.byteLength)];
    await a.readInto(0, left);
    await b.readInto(0, right);
    expect([name, Buffer.compare(left, right)]).toEqual([name, 0]);
  }
  await original.close();
});
