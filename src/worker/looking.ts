/**
 * Previews for a page before it loads, sends or trains: a preset, an image and training texts as the model sees them.
 */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {openCheckpoint} from '../checkpoints/open_checkpoint';
import {type ImageLike} from '../images/image_like';
import {memoryByDtype} from '../models/memory';
import {Gemma3Backbone} from '../models/gemma3/gemma3_backbone';
import {Gemma3Cache} from '../models/gemma3/parts/cache';
import {TextExamples, type TrainingPreprocessor} from '../training/examples';
import {type CallContext} from './call_context';
import {lmOf, preprocessorOf, presetOf} from './received';
import {
  type DescribeOptions,
  type ImagePreview,
  type PresetDescription,
  type TrainingPreview,
  type TrainingPreviewOptions,
} from './remote_options';
import {type PresetMessage} from './sources';
import {type RemoteTrainingTexts} from './training_operations';

const CACHE_LENGTHS = [1024, 8192, 32768];

/** Sizes of a model whose weights are only declared, which is fast at any size. */
function sizesOf(config: object): Pick<PresetDescription, 'memory' | 'cache'> {
  let cache: PresetDescription['cache'] = [];
  const memory = memoryByDtype(dtype => {
    const backbone = new Gemma3Backbone({...config, dtype} as never);
    cache = CACHE_LENGTHS.map(tokens => ({tokens, bytes: Gemma3Cache.byteLength(backbone, tokens)}));
    return backbone;
  });
  return {memory, cache};
}

/** A pixel value of a picture, from the converter's output. */
const undo = (argument: number | readonly number[] | null, channel: number, neutral: number): number =>
  typeof argument === 'number' || argument === null ? (argument ?? neutral) : (argument[channel] ?? argument[0]!);

export const looking = {
  async describePreset(
    {signal}: CallContext,
    preset: PresetMessage,
    options: DescribeOptions,
  ): Promise<PresetDescription> {
    const checkpoint = await openCheckpoint(presetOf(preset), {...options, download: false});
    try {
      signal.throwIfAborted();
      const backbone = await Gemma3Backbone.fromPreset(checkpoint, {loadWeights: false});
      const [config, parameters, readsImages] = [
        backbone.getConfig(),
        backbone.countParams(),
        backbone.visionEncoder !== null,
      ];
      backbone.dispose();
      signal.throwIfAborted();
      const description = {name: checkpoint.name, title: checkpoint.title, parameters, readsImages, ...sizesOf(config)};
      if (!(await checkpoint.hasWeights())) return {...description, dtypes: [], bytes: 0};
      const {variables, close} = await checkpoint.weights();
      await close();
      const all = [...variables.values()];
      return {
        ...description,
        dtypes: [...new Set(all.map(({dtype}) => dtype))],
        bytes: all.reduce((sum, {byteLength}) => sum + byteLength, 0),
      };
    } finally {
      await checkpoint.close();
    }
  },

  async previewImage(context: CallContext, key: number, image: ImageLike): Promise<ImagePreview> {
    const converter = preprocessorOf(lmOf(context, key)).imageConverter;
    if (!converter) {
      throw new ValueError(
        'Expected a model that reads images. Received: one for text only. Load a preset with image_converter.json.',
      );
    }
    const {width, height, channels, values} = await converter.convert(image);
    const data = new Uint8ClampedArray(width * height * 4).fill(255);
    const {scale, offset} = converter;
    for (let pixel = 0; pixel < width * height; pixel++) {
      for (let channel = 0; channel < 3; channel++) {
        const value = values[pixel * channels + Math.min(channel, channels - 1)]!;
        data[pixel * 4 + channel] = (value - undo(offset, channel, 0)) / undo(scale, channel, 1);
      }
    }
    return {width, height, data};
  },

  async previewTraining(
    context: CallContext,
    key: number,
    texts: RemoteTrainingTexts,
    {rows: count = 8}: TrainingPreviewOptions,
  ): Promise<TrainingPreview> {
    const preprocessor = preprocessorOf(lmOf(context, key));
    const {tokenizer, sequenceLength} = preprocessor;
    const examples = new TextExamples(preprocessor as unknown as TrainingPreprocessor, texts);
    const {lengths} = examples;
    const rows: TrainingPreview['rows'] = [];
    for (const [row, length] of lengths.slice(0, count).entries()) {
      context.signal.throwIfAborted();
      const {inputs, labels, sampleWeights} = await examples.batch([row], length);
      const ids = await inputs.token_ids!.data();
      tf.dispose(inputs);
      // A token counts if it is to be predicted. The first one never is.
      const all = [...ids, labels[length - 1]!];
      rows.push({
        tokens: all.map((id, i) => ({
          id,
          text: tokenizer.idToToken(id),
          counts: i > 0 && sampleWeights[i - 1] !== 0,
        })),
      });
    }
    return {rows, lengths: [...lengths], sequenceLength};
  },
};
