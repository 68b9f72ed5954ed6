/**
 * Options and results of models in a Worker: those of the models, without values that a message cannot hold. Types
 * only.
 */
import type {BackendDescription} from '../backends/use_backend';
import type {ChatSession} from '../generation/chat_session';
import type {SamplerName} from '../generation/samplers';
import type {FromPresetOptions} from '../models/backbone';
import type {CompileArgs} from '../models/causal_lm';
import type {CacheDtype} from '../generation/kv_cache';
import type {GenerateOptions} from '../models/generate_options';
import type {PoolingArgs} from '../models/gemma3/gemma3_text_embedder';
import type {DownloadOptions} from '../hub/on_demand';
import type {FitArgs, FitLogs} from '../training/fit_options';
import type {MetricName} from '../training/metrics';
import type {AdamArgs, CosineDecayArgs, OptimizerName, PolynomialDecayArgs, SGDArgs} from '../training/optimizers';
import type {WeightMemory} from '../models/memory';
import type {DtypeName, WeightFormat} from '../weights/dtype';
import type {WorkerFile} from './sources';

/** Options that load a model: those of `fromPreset`. */
export interface WorkerLoadOptions extends Omit<FromPresetOptions, 'fetch' | 'headers' | 'weights'> {
  /** Headers of every request, such as `Authorization`. */
  headers?: Readonly<Record<string, string>>;
  /** See {@link FromPresetOptions}. */
  weights?: WorkerFile;
  /** Name of the model. */
  name?: string;
}

/** Options that load a model for text generation. */
export interface WorkerCausalLMOptions extends WorkerLoadOptions {
  /** How the keys and values of texts are stored: as in `Gemma3CausalLM`. Defaults to "float32". */
  cacheDtype?: CacheDtype;
}

/** Options that load a text embedder. */
export type WorkerEmbedderOptions = WorkerLoadOptions & PoolingArgs;

/** Options of `downloadPreset` in a Worker. */
export interface WorkerDownloadOptions extends Omit<DownloadOptions, 'fetch' | 'headers'> {
  /** Headers of every request, such as `Authorization`. */
  headers?: Readonly<Record<string, string>>;
}

/** Options of `generate` and `stream` in a Worker. A conversation keeps its own session: see `startChat`. */
export type WorkerOptions<O extends GenerateOptions> = Omit<O, 'session'>;

/** Describes a model in a Worker. */
export interface ModelInfo {
  /** Name of the model. */
  readonly name: string;
  /**
   * Length of a prompt and the new text together, in tokens, unless an option sets it. Undefined without a
   * preprocessor.
   */
  readonly sequenceLength: number | undefined;
  /** How kernels are stored: the name of Keras' policy. */
  readonly dtype: DtypeName;
  /** Number of parameters. */
  readonly parameters: number;
  /** Whether it reads images. */
  readonly readsImages: boolean;
}

/** Token counts of a conversation. */
export type ChatNumbers = Pick<ChatSession, 'length' | 'maxLength' | 'promptLength' | 'reused'>;

/** A backend as `describeBackends` reports it, and whether it is the one in use. */
export interface WorkerBackend extends BackendDescription {
  /** Whether models of this Worker run on it. */
  inUse: boolean;
}

/** The memory of a Worker's backend. */
export interface WorkerMemory {
  numTensors: number;
  /** Bytes of all tensors. */
  numBytes: number;
  /** Bytes that "simd" uses, and has reserved, in WebAssembly memories. */
  heapBytes?: number;
  reservedBytes?: number;
}

/** Options of `describePreset`. */
export interface DescribeOptions {
  /** Headers of every request, such as `Authorization`. */
  headers?: Readonly<Record<string, string>>;
  /** Whether requests are forbidden: then the preset must be in the cache. */
  offline?: boolean;
  signal?: AbortSignal;
}

/** What is known about a preset without its weights. */
export interface PresetDescription {
  /** Its name, path or address. */
  readonly name: string;
  /** The format of its files, such as "Keras HDF5". */
  readonly title: string;
  /** Number of parameters. */
  readonly parameters: number;
  /** Whether it reads images. */
  readonly readsImages: boolean;
  /** How its weights are stored in its files, such as "bfloat16" or "Q4_0". Empty without weights. */
  readonly dtypes: readonly string[];
  /** Bytes of the weights in its files. */
  readonly bytes: number;
  /** Bytes that the weights need in memory with each dtype, and those of the largest weight. */
  readonly memory: Readonly<Record<WeightFormat, WeightMemory>>;
  /** Bytes of the cache of one text, by its length in tokens. */
  readonly cache: readonly {readonly tokens: number; readonly bytes: number}[];
}

/** An image as the model sees it: its size, and values from 0 to 255 as `ImageData` has them. */
export interface ImagePreview {
  width: number;
  height: number;
  data: Uint8ClampedArray<ArrayBuffer>;
}

// === Training ===

/** Options of `previewTraining`. */
export interface TrainingPreviewOptions {
  /** How many rows are shown. Defaults to 8. */
  rows?: number;
  signal?: AbortSignal;
}

/** Texts for training as token ids. */
export interface TrainingPreview {
  /** The first rows. A token `counts` if the loss is computed for it. */
  rows: {tokens: {id: number; text: string; counts: boolean}[]}[];
  /** Number of tokens that the model reads of each row. */
  lengths: number[];
  /** Maximum number of tokens in a row; longer rows are cut. */
  sequenceLength: number;
}

/** A learning rate that changes by a schedule of `optimizers`. */
export type RemoteRate =
  number | ({schedule: 'CosineDecay'} & CosineDecayArgs) | ({schedule: 'PolynomialDecay'} & PolynomialDecayArgs);

type WithRate<O> = Omit<O, 'learningRate'> & {learningRate?: RemoteRate};

/** An optimizer by its class in `optimizers` and its arguments. */
export type RemoteOptimizer =
  ({className: 'Adam' | 'AdamW'} & WithRate<AdamArgs>) | ({className: 'SGD'} & WithRate<SGDArgs>);

/** Arguments of `compile` in a Worker. */
export interface RemoteCompileArgs extends Pick<CompileArgs, 'recompute'> {
  /** A name, or a class and its arguments: `{className: 'AdamW', learningRate: 1e-4}`. */
  optimizer?: OptimizerName | RemoteOptimizer;
  loss?: Extract<CompileArgs['loss'], string>;
  /** Names of metrics: see `compile`. */
  metrics?: readonly MetricName[];
  weightedMetrics?: 'auto' | readonly MetricName[];
  sampler?: SamplerName;
}

/** Functions that `fit` in a Worker calls. It does not wait for them. */
export interface RemoteFitCallbacks {
  onTrainBegin?(logs?: FitLogs): void;
  onTrainEnd?(logs?: FitLogs): void;
  onEpochBegin?(epoch: number, logs?: FitLogs): void;
  onEpochEnd?(epoch: number, logs?: FitLogs): void;
  onBatchBegin?(batch: number, logs?: FitLogs): void;
  onBatchEnd?(batch: number, logs?: FitLogs): void;
}

/** Options of `fit` in a Worker. */
export interface RemoteFitArgs extends Omit<FitArgs, 'callbacks' | 'sampleWeight' | 'classWeight'> {
  /** Functions by name. Logs are those of `fit`. */
  callbacks?: RemoteFitCallbacks;
}

/** What `fit` returns: loss, metrics and their validation values, one number per epoch. */
export interface FitHistory {
  epoch: number[];
  history: Record<string, number[]>;
}
