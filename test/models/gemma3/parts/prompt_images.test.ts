/** Prompts with images against KerasHub (test/reference/make_prompt_image_fixtures.py), and invalid inputs. */
import * as tf from '@tensorflow/tfjs';
import {
  Gemma3CausalLMPreprocessor,
  Gemma3ImageConverter,
  Gemma3Tokenizer,
  type PromptImages,
  type TokenBatch,
} from '../../../../src';
import {fixtureBytes, fixtureJson} from '../../../support/fixtures';
import {expectNoLeak, take} from '../../../support/numbers';
import {picture} from '../../../support/picture';

type Images = null | [number, number, 'uint8' | 'float32'] | Images[];
interface Outputs {
  token_ids: unknown;
  padding_mask: unknown;
  vision_indices: unknown;
  vision_mask: unknown;
  images: {shape: number[]; values: number[]};
}
interface Case {
  kind: 'call' | 'generate';
  sequenceLength: number | null;
  prompts: string | string[];
  responses: string | string[];
  images: Images;
  x: Outputs;
  y: unknown;
  sampleWeight: unknown;
}
const cases = fixtureJson<Case[]>('prompt_images.json');
const tokenizer = new Gemma3Tokenizer({
  proto: fixtureBytes('tokenizer/vocabulary.spm'),
});
const imageConverter = new Gemma3ImageConverter({imageSize: [2, 3], scale: 1 / 127.5, offset: -1});
const preprocessor = new Gemma3CausalLMPreprocessor({
  tokenizer,
  imageConverter,
  sequenceLength: 40,
  maxImagesPerPrompt: 2,
  numVisionTokensPerImage: 3,
});
const START = '<start_of_image>';

function draw(images: Images): PromptImages | undefined {
  if (images === null) return undefined;
  if (typeof images[0] !== 'number') return (images as Images[]).map(draw) as PromptImages;
  const {height, width, values} = picture(...(images as [number, number, 'uint8']));
  return tf.tensor3d(values as never, [height, width, 3], values instanceof Float32Array ? 'float32' : 'int32');
}

async function compare(x: TokenBatch, expected: Outputs): Promise<void> {
  for (const key of ['token_ids', 'padding_mask', 'vision_indices', 'vision_mask'] as const) {
    // tfjs returns no rows for a shape [rows, 0].
    const rows = x[key]!.size === 0 && x[key]!.rank === 2 ? x[key]!.shape.slice(0, 1) : null;
    const received = rows ? Array.from({length: rows[0]!}, () => []) : await x[key]!.array();
    expect({[key]: received}).toEqual({[key]: expected[key]});
  }
  expect(x.images!.shape).toEqual(expected.images.shape);
  expect(x.images!.dtype).toBe('float32');
  expect(await x.images!.data()).toBeAllClose(expected.images.values, {atol: 1e-6});
}

/** KerasHub reads the marks of images that were not passed; here they are an error. */
const unmatched = ({prompts, images}: Case) => images === null && JSON.stringify(prompts).includes(START);

test.each(cases.filter(unmatched))('$kind: refuses $prompts without images', async ({kind, prompts, responses}) => {
  const message = /Received: 0 images, but <start_of_image> 1 times in prompt 0, .*Pass \{prompts, images\}/;
  await expectNoLeak(async () => {
    for (const images of [{}, {images: undefined}, {images: null}]) {
      const run = (x: never) => (kind === 'call' ? preprocessor.call(x) : preprocessor.generatePreprocess(x));
      await expect(run({prompts, responses, ...images} as never)).rejects.toThrow(message);
      expect(() => preprocessor.packedLengths({prompts, responses, ...images} as never)).toThrow(message);
      await expect(preprocessor.promptTokens({prompts, ...images} as never)).rejects.toThrow(message);
      await expect(preprocessor.promptTokens(prompts as string)).rejects.toThrow(message);
    }
  });
});

test('refuses images in responses', async () => {
  const given = (response: string, images: object = {}) => ({prompts: 'a', responses: response, ...images});
  await expect(preprocessor.call(given(START))).rejects.toThrow(
    /Received: <start_of_image> in response 0, .* Leave it/,
  );
  const image = {width: 2, height: 2, data: new Uint8ClampedArray(16)} as ImageData;
  const prompts = [START, 'b'];
  for (const marker of [START, '<img>']) {
    const x = {prompts, responses: ['a', `a${marker}`], images: [image, null]};
    await expect(preprocessor.call(x)).rejects.toThrow(`Received: ${marker} in response 1`);
  }
});

test('reads <img> as a tag where there are no images, and all tokens of images in a text-only model', async () => {
  const {tokens, visionMask} = await preprocessor.promptTokens('What is <img>?');
  expect(tokens[0]).toEqual([tokenizer.startTokenId, ...tokenizer.tokenize('What is <img>?')]);
  expect(visionMask[0]!.some(Boolean)).toBe(false);
  const textual = new Gemma3CausalLMPreprocessor({tokenizer, sequenceLength: 40});
  const text = `x${START}<img>`;
  expect((await textual.promptTokens(text)).tokens[0]).toEqual([tokenizer.startTokenId, ...tokenizer.tokenize(text)]);
});

test.each(cases.filter(each => !unmatched(each)))(
  '$kind: $prompts with images $images and $sequenceLength tokens',
  async ({kind, prompts, responses, images, ...rest}) => {
    await expectNoLeak(async () => {
      const given = draw(images);
      const options = rest.sequenceLength === null ? {} : {sequenceLength: rest.sequenceLength};
      if (kind === 'call') {
        const {x, y, sampleWeight} = await preprocessor.call({prompts, responses, images: given}, options);
        await compare(x, rest.x);
        expect(await y.array()).toEqual(rest.y);
        expect(await sampleWeight.array()).toEqual(rest.sampleWeight);
        tf.dispose([x as never, y, sampleWeight]);
      } else {
        const x = await preprocessor.generatePreprocess({prompts, images: given}, options);
        await compare(x, rest.x);
        tf.dispose(x as never);
      }
      tf.dispose(given as never);
    });
  },
);

describe('images in other forms', () => {
  const dense = tf.randomUniform([2, 2, 4, 5, 3], 0, 255) as tf.Tensor5D;
  const prompts = [`a ${START}${START}`, `${START} b ${START}`];
  const imagesOf = async (images: PromptImages) => {
    const x = await preprocessor.generatePreprocess({prompts, images});
    const values = await x.images!.array();
    tf.dispose(x as never);
    return values;
  };

  test('give the same results: one tensor, one tensor per prompt, lists', async () => {
    const all = await imagesOf(dense);
    const rows = tf.unstack(dense) as tf.Tensor4D[];
    expect(await imagesOf(rows)).toEqual(all);
    const each = rows.map(row => tf.unstack(row) as tf.Tensor3D[]);
    expect(await imagesOf(each)).toEqual(all);
    const one = await preprocessor.generatePreprocess({prompts: prompts[0]!, images: rows[0]!});
    expect(await one.images!.array()).toEqual((all as unknown[])[0]);
    tf.dispose([rows, each, one] as never);
  });

  test('are followed by black ones if a prompt has fewer', async () => {
    const {images, ...rest} = await preprocessor.generatePreprocess({
      prompts: [START, 'a'],
      images: [draw([1, 1, 'uint8']), null] as never,
    });
    const values = await take(images!);
    expect(values.slice(0, 3)).not.toEqual([-1, -1, -1]);
    expect(values.slice(18).every(value => value === -1)).toBe(true);
    tf.dispose(rest as never);
  });

  test('are resized separately', async () => {
    const [small, large] = [draw([4, 6, 'uint8']), draw([40, 9, 'uint8'])] as [tf.Tensor3D, tf.Tensor3D];
    const x = await preprocessor.generatePreprocess({prompts: START.repeat(2), images: [small, large]});
    const converted = await imageConverter.call([small, large]);
    expect(await x.images!.array()).toEqual(await converted.array());
    tf.dispose([x, small, large, converted] as never);
  });
});

describe('promptTokens', () => {
  test('returns the images of each prompt, and which tokens stand for them', async () => {
    const image = draw([3, 3, 'uint8']) as tf.Tensor3D;
    const prompts = [`a${START}${START}`, 'b', START];
    const given = {prompts, images: [[image, image], [], [image]]};
    const {tokens, scalar, images, visionMask} = await preprocessor.promptTokens(given);
    expect(scalar).toBe(false);
    expect(images.map(tensor => tensor?.shape ?? null)).toEqual([[2, 2, 3, 3], null, [1, 2, 3, 3]]);
    expect(visionMask).toEqual(tokens.map(ids => ids.map(id => id === tokenizer.imagePlaceholderId)));
    expect(visionMask.map(row => row.filter(Boolean).length)).toEqual([6, 0, 3]);
    tf.dispose([image, ...images.filter(tensor => tensor !== null)]);
  });

  test('accepts text without images', async () => {
    const {images, visionMask} = await preprocessor.promptTokens('x');
    expect([images, visionMask[0]!.some(Boolean)]).toEqual([[null], false]);
  });
});

describe('refuses', () => {
  const image = picture(2, 2);
  const one = {width: 2, height: 2, data: new Uint8ClampedArray(16)} as ImageData;
  const stack = tf.zeros([1, 2, 2, 3]) as tf.Tensor4D;
  const grey = tf.zeros([2, 2, 1]) as tf.Tensor3D;
  test.each<[string | string[], unknown, RegExp]>([
    ['no place', one, /once for each of its images. Received: 1 images, but <start_of_image> 0 times in prompt 0/],
    [START, [], /Received: 0 images, but <start_of_image> 1 times/],
    [[START, START], [[one, one], [one]], /Received: 2 images, but <start_of_image> 1 times in prompt 0/],
    [START.repeat(3), [one, one, one], /at most 2 images in a prompt. Received: 3 in prompt 0/],
    [`${START}<img>`, one, /Received: <img> in prompt 0, which stands for a part of one. Leave it out/],
    [[START], one, /Expected images for each of the 1 prompts, in a list .* Received: one image/],
    [[START, 'a'], [one], /each of the 2 prompts.* Received: a list of 1/],
    [[START, START], stack, /Received: a tensor of shape \[1, 2, 2, 3\]/],
    [START, tf.zeros([1, 1, 2, 2, 3]), /images of one prompt as \(images, height, width, 3\)/],
    [START, grey, /images with 3 channels: red, green and blue. Received: 1 channels in image 0 of prompt 0/],
    [START, image, /Expected an image: a tensor/],
    [START, new Uint8Array([1, 2]), /Expected bytes to be a PNG or JPEG image/],
  ])('%j with %p', async (prompts, images, message) => {
    const responses = typeof prompts === 'string' ? 'a' : prompts.map(() => 'a');
    const given = {prompts, images: images as PromptImages};
    await expectNoLeak(async () => {
      await expect(preprocessor.generatePreprocess(given)).rejects.toThrow(message);
      await expect(preprocessor.promptTokens(given)).rejects.toThrow(message);
      await expect(preprocessor.call({...given, responses})).rejects.toThrow(message);
    });
  });

  test('an image that generation would cut in two', async () => {
    const given = {prompts: `some words before ${START}`, images: one};
    const message =
      /room for the 3 tokens of the images in prompt 0. Received: \d of them within the sequence length, \d+/;
    const {tokens, images} = await preprocessor.promptTokens(given);
    tf.dispose(images as never);
    const whole = tokens[0]!;
    const cut = whole.lastIndexOf(tokenizer.imagePlaceholderId);
    await expect(preprocessor.promptTokens(given, {sequenceLength: cut})).rejects.toThrow(message);
    await expect(preprocessor.generatePreprocess(given, {sequenceLength: cut})).rejects.toThrow(message);
    tf.dispose((await preprocessor.promptTokens(given, {sequenceLength: cut + 1})).images as never);
  });

  test('a converter without a size, a tokenizer without vision', () => {
    const build = (args: object) => () => new Gemma3CausalLMPreprocessor({tokenizer, imageConverter, ...args});
    expect(build({imageConverter: new Gemma3ImageConverter()})).toThrow(
      /with an `imageSize`.* Received: imageSize=null/,
    );
    const first = new Gemma3ImageConverter({imageSize: [2, 2], dataFormat: 'channels_first'});
    expect(build({imageConverter: first})).toThrow(/dataFormat="channels_first"/);
    const textual = new Gemma3Tokenizer({proto: tokenizer.proto, hasVisionTokens: false});
    expect(build({tokenizer: textual})).toThrow(/a tokenizer with vision tokens/);
    expect(build({sequenceLength: 512})).toThrow(/`sequenceLength` should be greater than/);
  });
});

test('is loaded from a preset with its image converter', async () => {
  const tiny = await Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny');
  expect(tiny.imageConverter).toBeInstanceOf(Gemma3ImageConverter);
  expect(tiny.textOnlyModel).toBe(false);
  expect(tiny.getConfig()).toMatchObject({
    imageConverter: {className: 'Gemma3ImageConverter', config: {imageSize: [64, 64], offset: -1}},
  });
});
