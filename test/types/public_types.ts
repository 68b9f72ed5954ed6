/**
 * Types of the public API, as a program meets them. Nothing here runs: `npm run typecheck` compiles it, and a line after
 * `@ts-expect-error` must be an error.
 */
import {availableParallelism} from 'node:os';
import type * as tf from '@tensorflow/tfjs';
import {
  type CausalLM,
  type CausalLMPreprocessor,
  callbacks,
  Gemma3Backbone,
  Gemma3CausalLM,
  Gemma3ImageConverter,
  type Gemma3TextEmbedder,
  type Gemma3VisionEncoder,
  layers,
  type NestedArray,
  type TextEmbedderPreprocessor,
  useBackend,
} from 'tfjs-gemma3';

/** What preprocessors return is what models take, without a cast. */
export async function preprocessed(lm: Gemma3CausalLM, embedder: Gemma3TextEmbedder): Promise<void> {
  const preprocessor = lm.preprocessor!;
  lm.predict(await preprocessor.generatePreprocess('Hi'));
  lm.predict(await preprocessor.generatePreprocess({prompts: ['Hi'], images: ['a.png']}));
  lm.backbone.predict(await preprocessor.generatePreprocess(['Hi', 'Ho']));
  const {x, y, sampleWeight} = await preprocessor.call({prompts: ['a'], responses: ['b']});
  await lm.fit(x, y, {sampleWeight, validationData: [x, y, sampleWeight]});
  await lm.trainOnBatch(x, y, sampleWeight);
  await lm.evaluate(x, y);
  embedder.predict(await embedder.preprocessor!.call('Hi'));
  await embedder.fit(await embedder.preprocessor!.call(['Hi']), [[1, 2]]);
  const idsOnly = await Gemma3CausalLM.fromPreset('gemma3_tiny', {preprocessor: null});
  const ids = await idsOnly.generate(await preprocessor.generatePreprocess('Hi'));
  const text: string | string[] = await preprocessor.generatePostprocess(ids);
  void text;
}

/** The same through the base classes. */
export async function baseClasses(
  lm: CausalLM<string>,
  preprocessor: CausalLMPreprocessor,
  embedder: Gemma3TextEmbedder,
  texts: TextEmbedderPreprocessor,
): Promise<void> {
  lm.predict(await preprocessor.generatePreprocess('Hi'));
  const {x, y, sampleWeight} = await preprocessor.call({prompts: 'a', responses: 'b'});
  await lm.fit(x, y, {sampleWeight});
  embedder.predict(await texts.call('Hi'));
}

/** Arrays of numbers are taken wherever tensors are. */
export async function arrays(lm: Gemma3CausalLM, encoder: Gemma3VisionEncoder, tensor: tf.Tensor): Promise<void> {
  const rows: readonly (readonly number[])[] = [[2, 651]];
  const inputs = {token_ids: rows, padding_mask: [Uint8Array.of(1, 1)]};
  lm.predict(inputs);
  lm.predict({token_ids: {data: BigInt64Array.of(2n, 5n), shape: [1, 2]}, padding_mask: tensor});
  await lm.fit(inputs, rows, {sampleWeight: [[1, 0]]});
  lm.score({tokenIds: rows, targetIds: [[651, 7]], scoringMode: 'loss'});
  await lm.generate(inputs, {stopTokenIds: null});
  await lm.preprocessor!.generatePostprocess(inputs);
  lm.preprocessor!.tokenizer.detokenize(Int32Array.of(2, 651));
  const pixels: NestedArray[] = [[[0, 0, 255]]];
  await lm.generate({prompts: '<start_of_image>', images: pixels});
  await lm.generate({prompts: '<start_of_image>', images: [{data: new Uint8Array(12), shape: [2, 2, 3]}]});
  await new Gemma3ImageConverter({imageSize: [2, 2]}).call({data: new Uint8ClampedArray(12), shape: [2, 2, 3]});
  encoder.predict([[pixels]]);
  // @ts-expect-error -- texts are not numbers
  lm.predict({token_ids: [['2']], padding_mask: [[1]]});
}

/** Options have their values as types. */
export async function options(lm: Gemma3CausalLM, embedder: Gemma3TextEmbedder): Promise<void> {
  const name: 'webgpu' | 'cuda' | 'simd' | 'cpu' = await useBackend('simd', {threads: 4});
  void name;
  await useBackend('simd', {threads: availableParallelism()});
  // @ts-expect-error -- no such backend
  await useBackend('wasm');
  await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'int8'});
  // @ts-expect-error -- no such dtype
  await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'int3'});
  // @ts-expect-error -- no such dtype
  await Gemma3Backbone.fromPreset('gemma3_tiny', {dtype: 'q4'});
  // @ts-expect-error -- no such dtype
  new layers.Dense({units: 2, dtype: 'half'});
  await lm.generate('Hi', {stopStrings: '\n', sampler: 'top_p'});
  // @ts-expect-error -- no such sampler
  await lm.generate('Hi', {sampler: 'nucleus'});
  await lm.startChat().send('Hi', {stopStrings: '\n'});
  lm.compile({optimizer: 'adamw', weightedMetrics: ['perplexity']});
  // @ts-expect-error -- no such optimizer
  lm.compile({optimizer: 'lion'});
  embedder.compile({loss: 'cosine_similarity', optimizer: 'adam'});
  embedder.compile({loss: ['mse', 'cosine_similarity']});
  // @ts-expect-error -- no such loss
  embedder.compile({loss: 'cosine'});
  // @ts-expect-error -- no such format
  new Gemma3ImageConverter({boundingBoxFormat: 'yxhw'});
  new callbacks.EarlyStopping({monitor: 'val_loss', mode: 'min'});
  // @ts-expect-error -- no such mode
  new callbacks.EarlyStopping({monitor: 'val_perplexity', mode: 'lowest'});
}
