import * as tf from '@tensorflow/tfjs';
import {checkKeys, show, ValueError} from '../../base/errors';
import {type CheckpointLike, withCheckpoint} from '../../checkpoints/open_checkpoint';
import {type ImageLike, readPixels, tensorReaders} from '../../images/image_like';
import {type Pixels} from '../../images/pixels';
import {type Interpolation, INTERPOLATIONS} from '../../images/resample';
import {resizePixels} from '../../images/resizing';
import {checkArgument, checkArguments} from '../../base/checks';
import {camelKeys} from '../../base/casing';

export interface Gemma3ImageConverterArgs {
  /** Height and width of what comes out. Null, the default: as it came in. */
  imageSize?: readonly [number, number] | null;
  /** Multiplies all numbers, or those of each channel. Null, the default: as they are. */
  scale?: number | readonly number[] | null;
  /** Is added behind that, to all numbers or to those of each channel. Null, the default: nothing. */
  offset?: number | readonly number[] | null;
  /** Cut what is too tall or too wide, evenly on both sides, instead of distorting it. Defaults to true. */
  cropToAspectRatio?: boolean;
  /** Put zeros beside what is too slim instead. Defaults to false. */
  padToAspectRatio?: boolean;
  /** How pixels are made of those around. Defaults to "bilinear". */
  interpolation?: Interpolation;
  /** Look at all pixels when an image gets smaller, not only at the nearest. Defaults to false. */
  antialias?: boolean;
  /** Order of the axes of tensors that come in, and of what comes out. Defaults to "channels_last". */
  dataFormat?: 'channels_last' | 'channels_first' | null;
  /** Part of Keras' configuration, and kept for it: there are no bounding boxes here. Defaults to "yxyx". */
  boundingBoxFormat?: string;
  /** Defaults to "gemma3_image_converter". */
  name?: string;
}

const KNOWN: readonly (keyof Gemma3ImageConverterArgs)[] = [
  'imageSize',
  'scale',
  'offset',
  'cropToAspectRatio',
  'padToAspectRatio',
  'interpolation',
  'antialias',
  'dataFormat',
  'boundingBoxFormat',
  'name',
];
const DATA_FORMATS = ['channels_last', 'channels_first'] as const;
const BOX_FORMATS = ['xyxy', 'rel_xyxy', 'xywh', 'center_xywh', 'yxyx', 'rel_yxyx'] as const;
const OWNER = 'Gemma3ImageConverter';

/** @throws ValueError unless the value is one of these. */
function checkChoice(name: string, value: unknown, choices: readonly string[]): void {
  if (choices.includes(value as string)) return;
  throw new ValueError(`${OWNER} expected \`${name}\` to be one of ${choices.join(', ')}. Received: ${show(value)}.`);
}

/** @throws ValueError unless the value is null, a number or numbers. */
function checkNumbers(name: string, value: unknown): void {
  const numbers = Array.isArray(value) && value.length > 0 ? (value as unknown[]) : [value];
  if (value === null || numbers.every(number => Number.isFinite(number))) return;
  throw new ValueError(
    `${OWNER} expected \`${name}\` to be null, a number or one number for each channel. Received: ${show(value)}.`,
  );
}

/**
 * Images as the model wants them, as `keras_hub.layers.Gemma3ImageConverter`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_image_converter/): resized, times `scale`, plus `offset`.
 *
 * Images of whole numbers, files among them, are rounded to whole numbers behind resizing, as KerasHub rounds those of an
 * integer dtype.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class Gemma3ImageConverter {
  readonly name: string;
  readonly imageSize: readonly [number, number] | null;
  readonly scale: number | readonly number[] | null;
  readonly offset: number | readonly number[] | null;
  readonly cropToAspectRatio: boolean;
  readonly padToAspectRatio: boolean;
  readonly interpolation: Interpolation;
  readonly antialias: boolean;
  readonly dataFormat: 'channels_last' | 'channels_first';
  readonly boundingBoxFormat: string;

  constructor(args: Gemma3ImageConverterArgs = {}) {
    checkArguments(OWNER, args, KNOWN);
    this.name = args.name ?? 'gemma3_image_converter';
    this.imageSize = args.imageSize ?? null;
    this.scale = args.scale ?? null;
    this.offset = args.offset ?? null;
    this.cropToAspectRatio = args.cropToAspectRatio ?? true;
    this.padToAspectRatio = args.padToAspectRatio ?? false;
    this.interpolation = args.interpolation ?? 'bilinear';
    this.antialias = args.antialias ?? false;
    this.dataFormat = args.dataFormat ?? 'channels_last';
    this.boundingBoxFormat = args.boundingBoxFormat ?? 'yxyx';
    const {name, imageSize, cropToAspectRatio, padToAspectRatio, antialias} = this;
    checkArgument(OWNER, 'name', name, 'text');
    for (const [key, flag] of Object.entries({cropToAspectRatio, padToAspectRatio, antialias})) {
      checkArgument(OWNER, key, flag, 'flag');
    }
    const isSize = (size: unknown) => Number.isSafeInteger(size) && (size as number) > 0;
    if (imageSize !== null && !(Array.isArray(imageSize) && imageSize.length === 2 && imageSize.every(isSize))) {
      throw new ValueError(
        `${OWNER} expected \`imageSize\` to be null or [height, width]. Received: imageSize=${show(imageSize)}.`,
      );
    }
    checkNumbers('scale', this.scale);
    checkNumbers('offset', this.offset);
    checkChoice('interpolation', this.interpolation, INTERPOLATIONS);
    checkChoice('dataFormat', this.dataFormat, DATA_FORMATS);
    checkChoice('boundingBoxFormat', this.boundingBoxFormat, BOX_FORMATS);
    if (cropToAspectRatio && padToAspectRatio) {
      throw new ValueError(
        'Only one of `cropToAspectRatio` or `padToAspectRatio` can be true. Received: both. ' +
          '`cropToAspectRatio` is true unless it is given.',
      );
    }
  }

  /**
   * Converts one image, or a batch: images of different sizes are each resized on their own. The result is float32; int32
   * if whole numbers came in and there is neither scale nor offset.
   *
   * @throws ValueError for what is no image, and for images that come out in different sizes.
   */
  async call(image: ImageLike): Promise<tf.Tensor3D>;
  async call(images: tf.Tensor4D | readonly ImageLike[]): Promise<tf.Tensor4D>;
  async call(images: ImageLike | tf.Tensor4D | readonly ImageLike[]): Promise<tf.Tensor3D | tf.Tensor4D> {
    const batch = Array.isArray(images) || (images instanceof tf.Tensor && (images as tf.Tensor).rank === 4);
    if (!batch) {
      const one = await this.convert(images as ImageLike);
      return tf.tensor(one.values, this.shapeOf(one), dtypeOf(one)) as tf.Tensor3D;
    }
    const given = images instanceof tf.Tensor ? tensorReaders(images) : (images as readonly ImageLike[]);
    const converted: Pixels[] = [];
    for (const image of given) converted.push(await this.convert(image));
    const [first] = converted;
    if (!first) throw new ValueError(`${OWNER} expected at least one image. Received: none.`);
    const size = first.values.length;
    const other = converted.find(one => String(this.shapeOf(one)) !== String(this.shapeOf(first)));
    if (other) {
      throw new ValueError(
        `${OWNER} expected images of one size, or an \`imageSize\` to give them one. ` +
          `Received: [${this.shapeOf(first).join(', ')}] and [${this.shapeOf(other).join(', ')}].`,
      );
    }
    const dtype = converted.every(one => dtypeOf(one) === 'int32') ? 'int32' : 'float32';
    const values = new (dtype === 'int32' ? Int32Array : Float32Array)(size * converted.length);
    converted.forEach((one, i) => values.set(one.values, i * size));
    return tf.tensor(values, [converted.length, ...this.shapeOf(first)], dtype) as tf.Tensor4D;
  }

  /** What `call` makes of one image, without a tensor. A function reads it when its turn comes. */
  async convert(image: ImageLike | (() => Promise<Pixels>)): Promise<Pixels> {
    const channelsFirst = this.dataFormat === 'channels_first';
    let pixels = typeof image === 'function' ? await image() : await readPixels(image);
    if (channelsFirst && (typeof image === 'function' || image instanceof tf.Tensor)) pixels = channelsLast(pixels);
    if (this.imageSize) {
      const {imageSize: size, interpolation, antialias, cropToAspectRatio, padToAspectRatio} = this;
      pixels = resizePixels(pixels, {size, interpolation, antialias, cropToAspectRatio, padToAspectRatio});
    }
    pixels = this.scaled(pixels);
    return channelsFirst ? {...pixels, values: transposed(pixels.values, pixels.channels)} : pixels;
  }

  private shapeOf({height, width, channels}: Pixels): [number, number, number] {
    return this.dataFormat === 'channels_first' ? [channels, height, width] : [height, width, channels];
  }

  private scaled(pixels: Pixels): Pixels {
    const {scale, offset} = this;
    if (scale === null && offset === null) return pixels;
    const {channels} = pixels;
    const perChannel = (name: string, value: number | readonly number[] | null, neutral: number): Float32Array => {
      const numbers = typeof value === 'number' || value === null ? [value ?? neutral] : value;
      if (numbers.length !== 1 && numbers.length !== channels) {
        throw new ValueError(
          `${OWNER} expected an image with a channel for each number of \`${name}\`, ${numbers.length}. ` +
            `Received: ${channels} channels.`,
        );
      }
      return Float32Array.from({length: channels}, (_, c) => numbers[numbers.length === 1 ? 0 : c]!);
    };
    const factors = perChannel('scale', scale, 1);
    const added = perChannel('offset', offset, 0);
    const values = new Float32Array(pixels.values.length);
    for (let i = 0, c = 0; i < values.length; i++, c = c + 1 === channels ? 0 : c + 1) {
      values[i] = Math.fround(pixels.values[i]! * factors[c]!) + added[c]!;
    }
    return {...pixels, values};
  }

  /** All arguments, as Keras names them. */
  getConfig(): Record<string, unknown> {
    const {name, imageSize, scale, offset, interpolation, antialias} = this;
    const {cropToAspectRatio, padToAspectRatio, boundingBoxFormat, dataFormat} = this;
    return {
      name,
      imageSize,
      scale,
      offset,
      interpolation,
      antialias,
      cropToAspectRatio,
      padToAspectRatio,
      boundingBoxFormat,
      // KerasHub forgets it; what has its default is left out, so that files are the same.
      ...(dataFormat === 'channels_first' && {dataFormat}),
    };
  }

  /**
   * A converter from what `getConfig` gave, or from a configuration of KerasHub.
   *
   * @throws ValueError on any other configuration.
   */
  static fromConfig(config: object): Gemma3ImageConverter {
    // Always float32, and without weights.
    const {dtype: _d, trainable: _t, ...rest} = camelKeys(config);
    return new Gemma3ImageConverter(rest);
  }

  /**
   * The image converter of a preset.
   *
   * @param options arguments that replace those of the preset.
   * @throws ValueError if the preset is one of text, its files are unusable, or options are.
   */
  static async fromPreset(
    preset: CheckpointLike,
    options: Gemma3ImageConverterArgs = {},
  ): Promise<Gemma3ImageConverter> {
    checkKeys('fromPreset', options, KNOWN);
    return withCheckpoint(preset, async checkpoint => {
      const saved = await checkpoint.config('imageConverter', 'Gemma3ImageConverter');
      if (saved) return Gemma3ImageConverter.fromConfig({...camelKeys(saved.config), ...options});
      throw new ValueError(
        `Expected a preset that takes images, with image_converter.json. Received: "${checkpoint.name}", a preset ` +
          'for text only.',
      );
    });
  }
}

const dtypeOf = ({values}: Pixels) => (values instanceof Float32Array ? 'float32' : 'int32');

/** The pixels of a tensor (channels, height, width), which were read as if the channels came last. */
function channelsLast({height: channels, width: height, channels: width, values}: Pixels): Pixels {
  return {height, width, channels, values: transposed(values, height * width)};
}

/** The transpose of numbers (rows, columns). */
function transposed(values: Pixels['values'], columns: number): Pixels['values'] {
  const rows = values.length / columns;
  const output = values.slice();
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) output[column * rows + row] = values[row * columns + column]!;
  }
  return output;
}
