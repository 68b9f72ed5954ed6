/**
 * Models in a Worker, as a page sees them: a small client, without the code of the models.
 *
 * @module tfjs-gemma3/worker
 */
export {ContextFullError, OutOfMemoryError, ValueError} from '../base/errors';
export {formatBytes} from '../base/format_bytes';
export {type EndReason, WorkerEndedError} from './ended';
export {ModelWorker} from './model_worker';
export {type WorkerLike} from './port';
export {type FitControls, type FitRun, RemoteCausalLM} from './remote_causal_lm';
export {RemoteChat} from './remote_chat';
export {
  type ChatNumbers,
  type FitHistory,
  type ModelInfo,
  type RemoteCompileArgs,
  type RemoteFitArgs,
  type RemoteFitCallbacks,
  type RemoteOptimizer,
  type RemoteRate,
  type WorkerBackend,
  type WorkerDownloadOptions,
  type WorkerEmbedderOptions,
  type WorkerLoadOptions,
  type WorkerMemory,
  type WorkerOptions,
} from './remote_options';
export {RemoteTextEmbedder} from './remote_text_embedder';
export {type WorkerFile, type WorkerPreset} from './sources';
export {TextStream} from './text_stream';
export {type RemoteTrainingTexts} from './training_operations';
