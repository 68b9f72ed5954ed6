/** Pixels against KerasHub (test/reference/make_image_fixtures.py), batches, and configurations. */
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {Gemma3ImageConverter, type Gemma3ImageConverterArgs, type ImageLike} from '../../../src';
import {type Pixels} from '../../../src/images/pixels';
import {BlobPreset} from '../../../src/public/files';
import {fixture, fixtureJson, TINY_PRESET} from '../../support/fixtures';
import {expectNoLeak, take} from '../../support/numbers';
import {picture} from '../../support/picture';

interface Case {
  size: [number, number];
  dtype: 'uint8' | 'int32' | 'float32';
  config: Record<string, unknown>;
  shape: number[];
  integer: boolean;
}
const cases = fixtureJson<Case[]>('images/converter.json');
const stored = readFileSync(fixture('images/converter.bin'));
const expected = new Float32Array(new Uint8Array(stored).buffer);
const sizeOf = (shape: number[]) => shape.reduce((a, b) => a * b, 1);

const located: (Case & {values: Float32Array})[] = [];
let offset = 0;
for (const one of cases) {
  const size = sizeOf(one.shape);
  located.push({...one, values: expected.subarray(offset, offset + size)});
  offset += size;
}

function imageData({height, width, values}: Pixels): ImageData {
  const data = new Uint8ClampedArray(height * width * 4);
  values.forEach((value, i) => (data[Math.floor(i / 3) * 4 + (i % 3)] = value));
  return {height, width, data} as ImageData;
}

function imageTensor({height, width, values}: Pixels, channelsFirst: boolean): tf.Tensor3D {
  const dtype = values instanceof Float32Array ? 'float32' : 'int32';
  const image = tf.tensor3d(Array.from(values), [height, width, 3], dtype);
  return channelsFirst ? tf.tidy(() => tf.transpose(image, [2, 0, 1])) : image;
}

/** Name of the group that a case belongs to. */
function groupOf({config, dtype}: Case): string {
  const {interpolation = 'bilinear', antialias = false} = config;
  const fit = config.pad_to_aspect_ratio ? 'pad' : config.crop_to_aspect_ratio === false ? 'stretch' : 'crop';
  return `${interpolation as string}${antialias ? ' with antialias' : ''}, ${fit}, ${dtype}`;
}
const groups = new Map<string, typeof located>();
for (const one of located) groups.set(groupOf(one), [...(groups.get(groupOf(one)) ?? []), one]);

describe('the pixels of KerasHub', () => {
  test('cover the whole fixture file', () => expect(offset).toBe(expected.length));

  test.each([...groups.keys()])('%s', async group => {
    // Bilinear results are equal to the last bit; the other kernels compute sines.
    const exact = group.startsWith('bilinear,');
    for (const {size, dtype, config, shape, integer, values} of groups.get(group)!) {
      const pixels = picture(...size, dtype);
      const converter = Gemma3ImageConverter.fromConfig(config);
      const first = converter.dataFormat === 'channels_first';
      // Only images of bytes are clamped to 0 … 255. A tensor is not an image of bytes.
      const image = dtype === 'uint8' && !first ? imageData(pixels) : imageTensor(pixels, first);
      const output = await converter.call(image);
      const label = `${String(size)} ${JSON.stringify(config)}`;
      expect([label, output.dtype, ...output.shape]).toEqual([label, integer ? 'int32' : 'float32', ...shape]);
      expect(await take(output)).toBeAllClose(values, {rtol: exact ? 0 : 1e-6});
      if (image instanceof tf.Tensor) image.dispose();
    }
  });
});

test('clamps bytes where the interpolation overshoots', async () => {
  const config = {imageSize: [16, 16], interpolation: 'bicubic', cropToAspectRatio: false} as const;
  const image = {width: 2, height: 1, data: new Uint8ClampedArray([0, 0, 0, 255, 255, 255, 255, 255])} as ImageData;
  const values = await take(await new Gemma3ImageConverter(config).call(image));
  expect([Math.min(...values), Math.max(...values)]).toEqual([0, 255]);
});

describe('batches', () => {
  const converter = new Gemma3ImageConverter({imageSize: [4, 4], scale: 1 / 127.5, offset: -1});

  test('give the same results as separate images, and leave no tensors behind', async () => {
    await expectNoLeak(async () => {
      const wide = tf.randomUniform<tf.Rank.R3>([3, 8, 3], 0, 255, 'int32');
      const tall = tf.randomUniform<tf.Rank.R3>([9, 2, 3], 0, 255);
      const both = await converter.call([wide, tall]);
      expect(both.shape).toEqual([2, 4, 4, 3]);
      const separate = [await converter.call(wide), await converter.call(tall)];
      const stacked = tf.stack([wide, wide]) as tf.Tensor4D;
      const twice = await converter.call(stacked);
      expect(await both.array()).toEqual([await separate[0]!.array(), await separate[1]!.array()]);
      expect(await twice.array()).toEqual([await separate[0]!.array(), await separate[0]!.array()]);
      tf.dispose([wide, tall, both, separate, stacked, twice]);
    });
  });

  test('are refused if they are empty, or if images have different sizes or unusable values', async () => {
    await expect(converter.call([])).rejects.toThrow(/at least one image/);
    const [a, b] = [tf.zeros<tf.Rank.R3>([1, 2, 3]), tf.zeros<tf.Rank.R3>([2, 1, 3])];
    await expectNoLeak(async () => {
      await expect(new Gemma3ImageConverter().call([a, b])).rejects.toThrow(/Received: \[1, 2, 3\] and \[2, 1, 3\]/);
      await expect(converter.call([a, 3 as unknown as ImageLike])).rejects.toThrow(/Received: 3\./);
      const three = new Gemma3ImageConverter({scale: [1, 2, 3]});
      const grey = tf.zeros<tf.Rank.R3>([2, 2, 1]);
      await expect(three.call(grey)).rejects.toThrow(/3 channels, one per number of `scale`. Received: 1 channels/);
      grey.dispose();
    });
    tf.dispose([a, b]);
  });
});

describe('configuration', () => {
  test('is restored from `getConfig`', () => {
    const config = {
      imageSize: [4, 6],
      scale: [1, 2, 3],
      cropToAspectRatio: false,
      imageOrientation: 'none',
      dataFormat: 'channels_first',
    } as const;
    const converter = new Gemma3ImageConverter({...config, name: 'x'});
    expect(Gemma3ImageConverter.fromConfig(converter.getConfig()).getConfig()).toEqual(converter.getConfig());
  });

  test('has the keys that KerasHub writes, in their order', async () => {
    const file = join(TINY_PRESET, 'image_converter.json');
    const {config} = JSON.parse(readFileSync(file, 'utf8')) as {config: Record<string, unknown>};
    const {trainable: _t, dtype: _d, ...expected} = config;
    const converter = await Gemma3ImageConverter.fromPreset('gemma3_tiny');
    const snake = (key: string) => key.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
    const written = Object.entries(converter.getConfig()).map(([key, value]) => [snake(key), value]);
    expect(JSON.stringify(Object.fromEntries(written))).toBe(JSON.stringify(expected));
  });

  test('comes from either file of a preset, and options override it', async () => {
    const text = (name: string) => readFileSync(join(TINY_PRESET, name), 'utf8');
    const blob = (name: string) => new BlobPreset({[name]: new Blob([text(name)])});
    const both = [await Gemma3ImageConverter.fromPreset(blob('image_converter.json'))];
    both.push(await Gemma3ImageConverter.fromPreset(blob('preprocessor.json')));
    expect(both[0]!.getConfig()).toEqual(both[1]!.getConfig());
    const other = await Gemma3ImageConverter.fromPreset('gemma3_tiny', {cropToAspectRatio: true, imageSize: [8, 8]});
    expect([other.cropToAspectRatio, other.imageSize, other.scale]).toEqual([true, [8, 8], 1 / 127.5]);
    const textOnly = new BlobPreset({'config.json': new Blob(['{}'])});
    await expect(Gemma3ImageConverter.fromPreset(textOnly)).rejects.toThrow(/a preset that takes images/);
    await expect(Gemma3ImageConverter.fromPreset('gemma3_tiny', {size: 3} as never)).rejects.toThrow(/argument "size"/);
  });

  test.each<[object, RegExp]>([
    [{imageSize: 4}, /`imageSize` to be null or \[height, width\]. Received: imageSize=4/],
    [{imageSize: [4, 0]}, /Received: imageSize=\[4,0\]/],
    [{scale: 'x'}, /`scale` to be null, a number or one number per channel. Received: "x"/],
    [{offset: []}, /`offset` to be null/],
    [{scale: NaN}, /`scale` to be null/],
    [{interpolation: 'area'}, /one of bilinear, nearest, bicubic, lanczos3, lanczos5. Received: "area"/],
    [{imageOrientation: 'flipY'}, /`imageOrientation` to be one of from-image, none. Received: "flipY"/],
    [{dataFormat: 'first'}, /one of channels_last, channels_first/],
    [{boundingBoxFormat: 'x'}, /one of xyxy/],
    [{antialias: 1}, /`antialias` to be true or false/],
    [{name: 3}, /`name` to be a string/],
    [{padToAspectRatio: true}, /Only one of `cropToAspectRatio` or `padToAspectRatio`/],
    [{height: 3}, /no argument "height"/],
  ])('%j is refused', (args, message) => {
    expect(() => new Gemma3ImageConverter(args as Gemma3ImageConverterArgs)).toThrow(message);
  });
});
