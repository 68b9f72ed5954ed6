/** Pixels against KerasHub (test/reference/make_image_fixtures.py), and what is refused. */
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {Gemma3ImageConverter, MemorySource} from '../../../src';
import {type PresetSource} from '../../../src/hub/preset_source';
import {picture} from '../../images/picture';
import {expectNoLeak, maxDifference, take} from '../../support/numbers';

const FIXTURES = join(__dirname, '../../fixtures/images');
interface Case {
  size: [number, number];
  dtype: 'uint8' | 'int32' | 'float32';
  config: Record<string, unknown>;
  shape: number[];
  integer: boolean;
}
const cases = JSON.parse(readFileSync(join(FIXTURES, 'converter.json'), 'utf8')) as Case[];
const stored = readFileSync(join(FIXTURES, 'converter.bin'));
const expected = new Float32Array(new Uint8Array(stored).buffer);
const sizeOf = (shape: number[]) => shape.reduce((a, b) => a * b, 1);

describe('pixels as KerasHub makes them', () => {
  let offset = 0;
  const located = cases.map(one => {
    const from = offset;
    offset += sizeOf(one.shape);
    return {...one, values: expected.subarray(from, offset)};
  });

  it('are all there are', () => expect(offset).toBe(expected.length));

  const groups = new Map<string, typeof located>();
  for (const one of located) {
    const {interpolation = 'bilinear', antialias = false, pad_to_aspect_ratio: pad, crop_to_aspect_ratio: crop} = one.config;
    const key = `${interpolation as string}${antialias ? ', antialias' : ''}, ${pad ? 'pad' : crop === false ? 'stretch' : 'crop'}`;
    groups.set(`${key}, ${one.dtype}`, [...(groups.get(`${key}, ${one.dtype}`) ?? []), one]);
  }
  it.each([...groups.keys()])('%s', async key => {
    for (const {size, dtype, config, shape, integer, values} of groups.get(key)!) {
      const converter = Gemma3ImageConverter.fromConfig(config);
      const first = converter.dataFormat === 'channels_first';
      let pixels = await converter.convert(async () => {
        const image = picture(...size, dtype);
        if (!first) return image;
        const planes = image.values.map((_, i) => image.values[(i % sizeOf(size)) * 3 + Math.floor(i / sizeOf(size))]!);
        return {...image, height: 3, width: size[0], channels: size[1], values: planes};
      });
      if (first) pixels = {...pixels, height: shape[0]!, width: shape[1]!, channels: shape[2]!};
      const label = `${size} as ${dtype} ${JSON.stringify(config)}`;
      expect([label, pixels.height, pixels.width, pixels.channels]).toEqual([label, ...shape]);
      expect([label, !(pixels.values instanceof Float32Array)]).toEqual([label, integer]);
      const largest = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
      // Bilinear pixels are the same to the last digit; the others go through sines.
      const difference = maxDifference(pixels.values, values) / largest;
      expect([label, difference <= (key.startsWith('bilinear,') && !config.antialias ? 0 : 1e-6), difference]).toEqual([
        label,
        true,
        expect.any(Number),
      ]);
    }
  });
});
