/** What a page shows before it loads, sends or trains. */
import {readFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, Gemma3ImageConverter, useBackend, weights} from '../../src';
import {ModelWorker, type RemoteCausalLM} from '../../src/worker';
import {serve} from '../../src/worker/host';
import {fixture, tinyPicture} from '../support/fixtures';

const channel = new MessageChannel();
let worker: ModelWorker;
let lm: RemoteCausalLM;
let local: Gemma3CausalLM;
beforeAll(() => {
  serve(channel.port2 as unknown as Parameters<typeof serve>[0]);
  worker = new ModelWorker(channel.port1 as unknown as Worker);
});
afterAll(async () => {
  await lm.dispose();
  local.dispose();
  channel.port1.close();
});

describe('before a backend is chosen', () => {
  test('a preset: its size with each dtype', async () => {
    const {memory, cache, ...rest} = await worker.describePreset('gemma3_tiny');
    expect(rest).toMatchObject({title: 'Keras HDF5', parameters: 1_275_712, readsImages: true});
    expect([...rest.dtypes].sort()).toEqual(['bfloat16', 'float32']);
    const stored = await weights.listPresetVariables('gemma3_tiny');
    const bytesOf = {bfloat16: 2, float32: 4} as Record<string, number>;
    expect(rest.bytes).toBe(
      stored.reduce((sum, {shape, dtype}) => sum + tf.util.sizeFromShape([...shape]) * bytesOf[dtype]!, 0),
    );
    expect(memory.float32.total).toBe(4 * rest.parameters);
    const totals = (['float32', 'bfloat16', 'int8', 'int4'] as const).map(dtype => memory[dtype].total);
    expect(totals).toEqual([...totals].sort((a, b) => b - a));
    expect(cache.map(({tokens}) => tokens)).toEqual([1024, 8192, 32768]);
  });

  test('a file that a person chose', async () => {
    const file = new Blob([readFileSync(fixture('gguf/tiny.gguf'))]);
    const {title, dtypes, parameters} = await worker.describePreset({'tiny.gguf': file});
    expect(title).toMatch(/GGUF/);
    expect(dtypes.length).toBeGreaterThan(0);
    expect(parameters).toBeGreaterThan(1000);
  });

  test('no preset', async () => {
    await expect(worker.describePreset('./nowhere')).rejects.toThrow('which is none of these');
    await expect(worker.describePreset('gemma3_tiny', {signal: AbortSignal.abort('gone')})).rejects.toBe('gone');
  });
});

describe('with a model', () => {
  beforeAll(async () => {
    await useBackend('simd');
    lm = await worker.loadCausalLM('gemma3_tiny');
    local = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  });

  test('an image: the pixels that the model gets', async () => {
    const bytes = readFileSync(tinyPicture('blue_square'));
    const {width, height, data} = await lm.previewImage(new Blob([bytes]));
    expect([width, height, data.length]).toEqual([64, 64, 64 * 64 * 4]);
    const converter = await Gemma3ImageConverter.fromPreset('gemma3_tiny');
    const converted = await converter.call(new Uint8Array(bytes));
    const values = await converted.data();
    converted.dispose();
    const shown = Array.from(data).filter((_, i) => i % 4 !== 3);
    expect(shown).toEqual(Array.from(values, value => Math.round((value + 1) / (converter.scale as number))));
    expect(Array.from(data).filter((_, i) => i % 4 === 3)).toEqual(Array(64 * 64).fill(255));
    await expect(lm.previewImage(new Blob(['text']))).rejects.toThrow('Expected');
  });

  test('training texts: the tokens that are read, and those that count', async () => {
    const data = {prompts: ['The sea is', 'The sky'], responses: [' blue.', ' is blue, and it is high.']};
    const {rows, lengths, sequenceLength} = await lm.previewTraining(data);
    expect(sequenceLength).toBe(local.preprocessor!.sequenceLength);
    expect(lengths).toEqual(local.preprocessor!.packedLengths(data));
    const {tokenizer} = local.preprocessor!;
    for (const [i, {tokens}] of rows.entries()) {
      const expected = [
        ...[tokenizer.startTokenId, ...tokenizer.tokenize(data.prompts[i]!)].map(id => [id, false]),
        ...[...tokenizer.tokenize(data.responses[i]!), tokenizer.endTokenId].map(id => [id, true]),
      ];
      expect(tokens.map(({id, counts}) => [id, counts])).toEqual(expected);
      expect(tokens.map(({text}) => text)).toEqual(tokens.map(({id}) => tokenizer.idToToken(id)));
    }
    const {numTensors} = tf.memory();
    expect((await lm.previewTraining(Array(5).fill('The sea is blue.'), {rows: 2})).rows).toHaveLength(2);
    const images = new Blob([readFileSync(tinyPicture('blue_square'))]);
    const picture = {prompts: ['<start_of_image> What is it?'], responses: [' A blue square.'], images: [images]};
    const [row] = (await lm.previewTraining(picture)).rows;
    expect(row!.tokens.filter(({id}) => id === tokenizer.imagePlaceholderId)).toHaveLength(
      local.preprocessor!.numVisionTokensPerImage,
    );
    expect(tf.memory().numTensors).toBe(numTensors);
  });
});
