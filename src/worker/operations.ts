/**
 * The operations that a page can call in its Worker. The types of the page's calls are derived from these functions.
 */
import * as tf from '@tensorflow/tfjs';
import {
  backendInUse,
  type BackendName,
  type BackendOptions,
  describeBackends,
  useBackend,
} from '../backends/use_backend';

import {type ChatArgs, type ChatOptions, ChatSession} from '../generation/chat_session';
import {cachedPresets, downloadPreset, removeCachedPreset} from '../hub/on_demand';
import {Gemma3CausalLM} from '../models/gemma3/gemma3_causal_lm';
import {Gemma3TextEmbedder} from '../models/gemma3/gemma3_text_embedder';
import {type GenerationInputs} from '../models/gemma3/parts/prompt_rows';
import {type EncodeOptions} from '../models/text_embedder';
import {type ChatMessage} from '../tokenizers/chat_template';
import {type CallContext} from './call_context';
import {looking} from './looking';
import {lmOf, preprocessorOf, presetOf} from './received';
import {type PresetMessage} from './sources';
import {
  type ChatNumbers,
  type ModelInfo,
  type WorkerBackend,
  type WorkerCausalLMOptions,
  type WorkerDownloadOptions,
  type WorkerEmbedderOptions,
  type WorkerMemory,
} from './remote_options';
import {training} from './training_operations';

/** An object in the Worker, and what the page knows about it. */
export interface Loaded {
  key: number;
  info: ModelInfo;
}

function infoOf(model: Gemma3CausalLM | Gemma3TextEmbedder): ModelInfo {
  const {name, backbone, preprocessor} = model;
  return {
    name,
    sequenceLength: preprocessor?.sequenceLength ?? undefined,
    dtype: model.dtypePolicy.name,
    parameters: model.countParams(),
    readsImages: backbone.visionEncoder !== null,
  };
}

const embedderOf = ({store}: CallContext, key: number): Gemma3TextEmbedder => store.get(key, Gemma3TextEmbedder);

async function sendPieces({report}: CallContext, pieces: AsyncIterable<string>): Promise<void> {
  for await (const piece of pieces) report('piece', piece);
}

const numbersOf = ({length, maxLength, promptLength, reused}: ChatSession): ChatNumbers => ({
  ...{length, maxLength, promptLength, reused},
});

/** Answers in a conversation. Even after an error, the page gets its new token counts. */
async function answer(
  context: CallContext,
  key: number,
  ask: (chat: ChatSession) => AsyncIterable<string>,
): Promise<void> {
  const chat = context.store.get(key, ChatSession);
  try {
    await sendPieces(context, ask(chat));
  } finally {
    context.report('numbers', numbersOf(chat));
  }
}

/** Rows of a matrix, each with its own memory. The matrix is disposed. */
async function rowsOf(matrix: tf.Tensor2D): Promise<Float32Array<ArrayBuffer>[]> {
  try {
    const [rows, width] = matrix.shape;
    const values = (await matrix.data()) as Float32Array;
    return Array.from({length: rows}, (_, i) => values.slice(i * width, (i + 1) * width) as Float32Array<ArrayBuffer>);
  } finally {
    matrix.dispose();
  }
}

export const operations = {
  // === Backends ===

  async useBackend(_: CallContext, name: BackendName, options: BackendOptions): Promise<Exclude<BackendName, 'auto'>> {
    return useBackend(name, options);
  },

  async describeBackends(): Promise<WorkerBackend[]> {
    const inUse = backendInUse();
    return (await describeBackends()).map(backend => ({...backend, inUse: backend.name === inUse}));
  },

  async memory(): Promise<WorkerMemory> {
    const {numTensors, numBytes, heapBytes, reservedBytes} = tf.memory() as WorkerMemory;
    return {numTensors, numBytes, ...(heapBytes !== undefined && {heapBytes, reservedBytes: reservedBytes!})};
  },

  // === Models ===

  async loadCausalLM({store}: CallContext, preset: PresetMessage, options: WorkerCausalLMOptions): Promise<Loaded> {
    const lm = await Gemma3CausalLM.fromPreset(presetOf(preset), options);
    return {key: store.add(lm), info: infoOf(lm)};
  },

  async loadTextEmbedder({store}: CallContext, preset: PresetMessage, options: WorkerEmbedderOptions): Promise<Loaded> {
    const embedder = await Gemma3TextEmbedder.fromPreset(presetOf(preset), options);
    return {key: store.add(embedder), info: infoOf(embedder)};
  },

  async cloneCausalLM(context: CallContext, key: number): Promise<Loaded> {
    const lm = lmOf(context, key).clone();
    return {key: context.store.add(lm), info: infoOf(lm)};
  },

  /** Frees a model or a conversation. A second call is not an error, as in a page. */
  async dispose({store}: CallContext, key: number): Promise<void> {
    store.dispose(key);
  },

  // === Text ===

  async generate(context: CallContext, key: number, inputs: GenerationInputs, options: object): Promise<unknown> {
    return lmOf(context, key).generate(inputs, options);
  },

  async stream(context: CallContext, key: number, prompt: GenerationInputs, options: object): Promise<void> {
    await sendPieces(context, lmOf(context, key).stream(prompt, options));
  },

  async tokenize(context: CallContext, key: number, text: string): Promise<number[]> {
    return preprocessorOf(lmOf(context, key)).tokenizer.tokenize(text);
  },

  async detokenize(context: CallContext, key: number, ids: readonly number[]): Promise<string> {
    return preprocessorOf(lmOf(context, key)).tokenizer.detokenize(ids);
  },

  async countTokens(context: CallContext, key: number, inputs: GenerationInputs): Promise<number | number[]> {
    const whole = {sequenceLength: Number.MAX_SAFE_INTEGER};
    const {tokens, images, scalar} = await preprocessorOf(lmOf(context, key)).promptTokens(inputs, whole);
    tf.dispose(images.filter(one => one !== null));
    return scalar ? tokens[0]!.length : tokens.map(({length}) => length);
  },

  // === Conversations ===

  async startChat(context: CallContext, key: number, args: ChatArgs): Promise<{key: number; numbers: ChatNumbers}> {
    const chat = lmOf(context, key).startChat(args);
    return {key: context.store.add(chat), numbers: numbersOf(chat)};
  },

  async streamAnswer(
    context: CallContext,
    key: number,
    content: ChatMessage['content'],
    options: ChatOptions,
  ): Promise<void> {
    await answer(context, key, chat => chat.stream(content, options));
  },

  async regenerateAnswer(context: CallContext, key: number, options: ChatOptions): Promise<void> {
    await answer(context, key, chat => chat.regenerate(options));
  },

  async chatHistory({store}: CallContext, key: number): Promise<ChatMessage[]> {
    return store.get(key, ChatSession).history;
  },

  async clearChat({store}: CallContext, key: number): Promise<ChatNumbers> {
    const chat = store.get(key, ChatSession);
    chat.clear();
    return numbersOf(chat);
  },

  // === Embeddings ===

  async encodeText(
    context: CallContext,
    key: number,
    texts: string | readonly string[],
    options: EncodeOptions,
  ): Promise<Float32Array<ArrayBuffer>[]> {
    return rowsOf(await embedderOf(context, key).encodeText(texts, options));
  },

  // === Downloads ===

  async downloadPreset(_: CallContext, name: string, options: WorkerDownloadOptions) {
    return downloadPreset(name, options);
  },

  async cachedPresets() {
    return cachedPresets();
  },

  async removeCachedPreset(_: CallContext, name: string) {
    return removeCachedPreset(name);
  },

  ...looking,
  ...training,
};

type Operations = typeof operations;
export type OperationName = keyof Operations;

type Rest<T> = T extends [CallContext, ...infer R] ? R : [];
/** Arguments of an operation, as the page gives them. */
export type OperationArgs<N extends OperationName> = Rest<Parameters<Operations[N]>>;
/** The result that the page gets. */
export type OperationResult<N extends OperationName> = Awaited<ReturnType<Operations[N]>>;
