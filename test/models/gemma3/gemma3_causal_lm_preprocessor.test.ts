/** Preprocessing for training and generation against KerasHub (test/reference/make_preprocessor_fixtures.py). */
import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {Gemma3CausalLMPreprocessor, Gemma3ImageConverter, Gemma3Tokenizer} from '../../../src';
import {trimRoundRobin} from '../../../src/models/gemma3/parts/segments';
import {MemoryPreset} from '../../../src/public/files';
import {fixtureBytes, fixtureJson} from '../../support/fixtures';
import {expectNoLeak} from '../../support/numbers';

interface Case {
  kind: 'call' | 'generate';
  addStartToken: boolean;
  addEndToken?: boolean;
  sequenceLength: number | null;
  prompts: string | string[];
  responses: string | string[];
  token_ids: unknown;
  padding_mask: unknown;
  y: unknown;
  sampleWeight: unknown;
  text: string | string[];
}
const cases = fixtureJson<Case[]>('preprocessor.json');
const tokenizer = new Gemma3Tokenizer({
  proto: fixtureBytes('tokenizer/vocabulary.spm'),
});

test.each(cases.filter(({kind}) => kind === 'call'))(
  'pads $prompts | $responses to $sequenceLength as KerasHub',
  async ({addStartToken, addEndToken, sequenceLength, prompts, responses, ...expected}) => {
    await expectNoLeak(async () => {
      const preprocessor = new Gemma3CausalLMPreprocessor({tokenizer, sequenceLength: 24, addStartToken, addEndToken});
      const options = sequenceLength === null ? {} : {sequenceLength};
      const {x, y, sampleWeight} = await preprocessor.call({prompts, responses}, options);
      expect(await x.token_ids.array()).toEqual(expected.token_ids);
      expect(await x.padding_mask.array()).toEqual(expected.padding_mask);
      expect(await y.array()).toEqual(expected.y);
      expect(await sampleWeight.array()).toEqual(expected.sampleWeight);
      tf.dispose([x.token_ids, x.padding_mask, y, sampleWeight]);
    });
  },
);

test.each(cases.filter(({kind}) => kind === 'generate'))(
  'pads the prompt $prompts to $sequenceLength as KerasHub, and removes the padding',
  async ({addStartToken, sequenceLength, prompts, ...expected}) => {
    const preprocessor = new Gemma3CausalLMPreprocessor({tokenizer, sequenceLength: 24, addStartToken});
    const x = await preprocessor.generatePreprocess(prompts, sequenceLength === null ? {} : {sequenceLength});
    expect(await x.token_ids.array()).toEqual(expected.token_ids);
    expect(await x.padding_mask.array()).toEqual(expected.padding_mask);
    expect(await preprocessor.generatePostprocess(x)).toEqual(expected.text);
    tf.dispose([x.token_ids, x.padding_mask]);
  },
);

test('cuts segments by taking one token of each in turn', () => {
  fc.assert(
    fc.property(fc.array(fc.array(fc.nat(9), {maxLength: 12}), {maxLength: 4}), fc.nat(30), (segments, limit) => {
      const kept = segments.map(() => 0);
      let left = limit;
      for (let changed = true; changed && left > 0;) {
        changed = false;
        for (let i = 0; i < segments.length && left > 0; i++) {
          if (kept[i]! < segments[i]!.length) {
            kept[i]!++;
            left--;
            changed = true;
          }
        }
      }
      expect(trimRoundRobin(segments, limit)).toEqual(segments.map((segment, i) => segment.slice(0, kept[i])));
    }),
  );
});

describe('invalid input', () => {
  const preprocessor = new Gemma3CausalLMPreprocessor({tokenizer});
  test.each([
    [{prompts: 'a'}, /no responses/],
    [{prompts: ['a'], responses: 'b'}, /one response per prompt/],
    [{prompts: ['a', 'b'], responses: ['c']}, /2 prompts, 1 responses/],
    [{prompts: 3, responses: 'a'}, /prompts as a string/],
    [{prompts: [], responses: []}, /at least one/],
    [{prompts: 'a', responses: 'b', images: []}, /text-only/],
    [{prompts: 'a', response: 'b'}, /no argument "response"/],
  ])('refuses %j', async (x, message) => {
    await expect(preprocessor.call(x as never)).rejects.toThrow(message);
  });

  test('refuses a length of 0, and arguments that contradict each other', async () => {
    await expect(preprocessor.generatePreprocess('a', {sequenceLength: 0})).rejects.toThrow(/positive integer/);
    const imageConverter = new Gemma3ImageConverter({imageSize: [8, 8]});
    const args = {tokenizer, imageConverter, sequenceLength: 512};
    expect(() => new Gemma3CausalLMPreprocessor(args)).toThrow(/should be greater than/);
    expect(() => new Gemma3CausalLMPreprocessor({tokenizer: {} as never})).toThrow(/expected a Gemma3Tokenizer/);
    expect(() => new Gemma3CausalLMPreprocessor(undefined as never)).toThrow(/expected its arguments in one object/);
  });

  test.each<[object, RegExp]>([
    [{addStartToken: 'no'}, /`addStartToken` to be true or false. Received: addStartToken="no"/],
    [{addEndToken: 0}, /`addEndToken` to be true or false/],
    [{name: 3}, /`name` to be a string. Received: name=3/],
    [{imageConverter: {}}, /`imageConverter` to be null or a Gemma3ImageConverter/],
    [{imageConverter: new Gemma3ImageConverter()}, /an image converter with an `imageSize`/],
    [{maxImagesPerPrompt: 0}, /`maxImagesPerPrompt` to be a positive integer/],
    [{sequenceLenght: 3}, /sequenceLenght/],
  ])('refuses the argument %o', (args, message) => {
    expect(() => new Gemma3CausalLMPreprocessor({tokenizer, ...args})).toThrow(message);
  });
});

describe('fromPreset with an image converter', () => {
  const orientations = async (preset: MemoryPreset) => [
    (await Gemma3CausalLMPreprocessor.fromPreset(preset)).imageConverter?.imageOrientation,
    (await Gemma3ImageConverter.fromPreset(preset)).imageOrientation,
  ];

  test('replaces that of the preset, and is saved where KerasHub does not look', async () => {
    const imageConverter = await Gemma3ImageConverter.fromPreset('gemma3_tiny', {imageOrientation: 'none'});
    const preprocessor = await Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny', {imageConverter});
    const plain = await Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny', {imageConverter: undefined});
    expect(preprocessor.imageConverter).toBe(imageConverter);
    expect(plain.imageConverter?.imageOrientation).toBe('from-image');
    expect(preprocessor.numVisionTokensPerImage).toBe(plain.numVisionTokensPerImage);
    const [saved, plainSaved] = [new MemoryPreset(), new MemoryPreset()];
    await preprocessor.saveToPreset(saved);
    await plain.saveToPreset(plainSaved);
    expect(await orientations(saved)).toEqual(['none', 'none']);
    expect(await orientations(plainSaved)).toEqual(['from-image', 'from-image']);
    const read = (preset: MemoryPreset) =>
      JSON.parse(new TextDecoder().decode(preset.files.get('image_converter.json'))) as Record<string, unknown>;
    expect(read(saved)).toEqual({...read(plainSaved), image_orientation: 'none'});
  });

  test('null makes it text-only', async () => {
    const preprocessor = await Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny', {imageConverter: null});
    expect(preprocessor.textOnlyModel).toBe(true);
  });
});
