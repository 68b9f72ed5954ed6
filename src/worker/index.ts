/**
 * The page's client for models in a Worker: small, without the code of the models. Its files use `import type`, which
 * is removed completely; `import {type …}` would leave an import of the module.
 *
 * @module tfjs-gemma3/worker
 */
export {ContextFullError, OutOfMemoryError, ValueError} from '../base/errors';
export {formatBytes} from '../base/format_bytes';
export {type EndReason, WorkerEndedError} from './ended';
export {ModelWorker} from './model_worker';
export type {WorkerLike} from './port';
export {type FitControls, type FitRun, RemoteCausalLM} from './remote_causal_lm';
export {RemoteChat} from './remote_chat';
export type {
  ChatNumbers,
  DescribeOptions,
  FitHistory,
  ImagePreview,
  ModelInfo,
  PresetDescription,
  RemoteCompileArgs,
  RemoteFitArgs,
  RemoteFitCallbacks,
  RemoteOptimizer,
  RemoteRate,
  TrainingPreview,
  TrainingPreviewOptions,
  WorkerBackend,
  WorkerCausalLMOptions,
  WorkerDownloadOptions,
  WorkerEmbedderOptions,
  WorkerLoadOptions,
  WorkerMemory,
  WorkerOptions,
} from './remote_options';
export {RemoteTextEmbedder} from './remote_text_embedder';
export type {WorkerFile, WorkerPreset} from './sources';
export {TextStream} from './text_stream';
export type {RemoteTrainingTexts} from './training_operations';
