/** Preprocessing for embedders against KerasHub (test/reference/make_embedder_fixtures.py). */
import * as tf from '@tensorflow/tfjs';
import {Gemma3TextEmbedderPreprocessor, Gemma3Tokenizer, type Truncation} from '../../../src';
import {trimWaterfall} from '../../../src/models/gemma3/parts/segments';
import {fixture, fixtureBytes, fixtureJson} from '../../support/fixtures';
import {expectNoLeak} from '../../support/numbers';

interface Case {
  segments: (string | string[])[];
  sequenceLength: number;
  truncate: Truncation;
  token_ids: unknown;
  padding_mask: unknown;
}
const cases = fixtureJson<Case[]>('embedder/preprocessor.json');
const tokenizer = new Gemma3Tokenizer({
  proto: fixtureBytes('tokenizer/vocabulary.spm'),
});

test.each(cases)(
  'combines $segments to $sequenceLength tokens, $truncate, as KerasHub',
  async ({segments, sequenceLength, truncate, ...expected}) => {
    await expectNoLeak(async () => {
      const preprocessor = new Gemma3TextEmbedderPreprocessor({tokenizer, sequenceLength, truncate});
      const x = await preprocessor.call({segments});
      expect(await x.token_ids.array()).toEqual(expected.token_ids);
      expect(await x.padding_mask.array()).toEqual(expected.padding_mask);
      tf.dispose([x.token_ids, x.padding_mask]);
    });
  },
);

test('takes a text as a single segment', async () => {
  await expectNoLeak(async () => {
    const preprocessor = new Gemma3TextEmbedderPreprocessor({tokenizer});
    for (const text of ['Hi', ['Hi', 'the quick brown fox']]) {
      const [a, b] = [await preprocessor.call(text), await preprocessor.call({segments: [text]})];
      expect(await a.token_ids.array()).toEqual(await b.token_ids.array());
      expect(a.token_ids.shape.at(-1)).toBe(256);
      tf.dispose([a.token_ids, a.padding_mask, b.token_ids, b.padding_mask]);
    }
  });
});

test('marks a padding token within the text as KerasHub does', async () => {
  const preprocessor = new Gemma3TextEmbedderPreprocessor({tokenizer, sequenceLength: 12});
  const x = await preprocessor.call('a<pad>b');
  const [ids, mask] = [await x.token_ids.array(), await x.padding_mask.array()];
  expect(mask).toEqual((ids as number[]).map(id => Number(id !== tokenizer.padTokenId)));
  tf.dispose([x.token_ids, x.padding_mask]);
});

test('is never longer than the sequence length, even if the special tokens exceed it', async () => {
  const preprocessor = new Gemma3TextEmbedderPreprocessor({tokenizer, sequenceLength: 1});
  const x = await preprocessor.call({segments: ['a', 'b']});
  expect(await x.token_ids.array()).toEqual([tokenizer.startTokenId]);
  tf.dispose([x.token_ids, x.padding_mask]);
});

test('gives the first segment as many tokens as it needs', () => {
  const [a, b, c] = [[1, 2, 3], [4, 5], [6]];
  expect(trimWaterfall([a!, b!, c!], 4)).toEqual([[1, 2, 3], [4], []]);
  expect(trimWaterfall([a!, b!, c!], 9)).toEqual([a, b, c]);
  expect(trimWaterfall([a!, b!], -1)).toEqual([[], []]);
});

test('takes its arguments from the preset of an embedder, but not from other presets', async () => {
  const preprocessor = await Gemma3TextEmbedderPreprocessor.fromPreset(fixture('embedder/mean'));
  expect(preprocessor.getConfig()).toMatchObject({sequenceLength: 20, truncate: 'waterfall'});
  const other = await Gemma3TextEmbedderPreprocessor.fromPreset('gemma3_tiny', {sequenceLength: 9});
  expect(other.getConfig()).toMatchObject({sequenceLength: 9, truncate: 'round_robin'});
  await expect(Gemma3TextEmbedderPreprocessor.fromPreset('gemma3_tiny', {sequence_length: 9} as never)).rejects.toThrow(
    'fromPreset has no argument "sequence_length".',
  );
});

describe('refuses', () => {
  const owner = 'Gemma3TextEmbedderPreprocessor';
  test.each<[object, string]>([
    [
      {truncate: 'left'},
      `${owner} expected \`truncate\` to be "round_robin" or "waterfall". Received: truncate="left".`,
    ],
    [{sequenceLength: 0}, '`sequenceLength` to be a positive integer. Received: sequenceLength=0.'],
    [{tokenizer: {}}, `${owner} expected a Gemma3Tokenizer as \`tokenizer\`.`],
    [{name: 3}, '`name` to be a string'],
    [{addStartToken: true}, `${owner} has no argument "addStartToken".`],
  ])('arguments %j', (args, message) => {
    expect(() => new Gemma3TextEmbedderPreprocessor({tokenizer, ...args} as never)).toThrow(message);
  });

  test.each<[unknown, string]>([
    [3, 'a text or a list of texts, at least one. Received: 3.'],
    [[], 'at least one. Received: [].'],
    [['a', undefined], 'Received: ["a",null].'],
    [{segments: []}, 'at least one'],
    [{}, 'at least one'],
    [{texts: ['a']}, 'has no argument "texts". Expected: segments.'],
    [{segments: ['a', ['b']]}, 'all strings, or all lists of the same length. Received: a string, a list of 1.'],
    [{segments: [['a'], ['b', 'c']]}, 'Received: a list of 1, a list of 2.'],
  ])('input %j', async (x, message) => {
    const preprocessor = new Gemma3TextEmbedderPreprocessor({tokenizer});
    await expect(preprocessor.call(x as never)).rejects.toThrow(message);
  });
});
