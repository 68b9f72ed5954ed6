/**
 * Gemma 3 as TensorFlow.js layers.
 *
 * @module tfjs-gemma3
 */

// === Backends ===

export {
  type BackendDescription,
  type BackendName,
  type BackendOptions,
  backendNames,
  describeBackends,
  useBackend,
} from './backends/use_backend';
export {type SimdOptions, type ThreadCount} from './backends/simd';
export {type WebGpuOptions} from './backends/webgpu';

// === Models ===

export {Backbone, type FromPresetOptions, type ModelInputs} from './models/backbone';
export {CausalLM, type CompileArgs} from './models/causal_lm';
export {CausalLMPreprocessor} from './models/causal_lm_preprocessor';
export {type BoundingBoxFormat, ImageConverter, type ImageConverterArgs} from './models/image_converter';
export {type PresetOptions} from './models/preset_classes';
export {Preprocessor} from './models/preprocessor';
export {
  SentencePieceTokenizer,
  type SentencePieceTokenizerArgs,
  type SentencePieceTokenizerConfig,
} from './models/sentence_piece_tokenizer';
export {type AnyTask, Task} from './models/task';
export {type TaskOptions} from './models/task_options';
export {
  type EmbedderFitArgs,
  type EmbedderInputs,
  type Embeddings,
  type EmbedderTargets,
  type EncodeOptions,
  TextEmbedder,
  type Texts,
} from './models/text_embedder';
export {
  type EmbedderLossFunction,
  type EmbedderLossName,
  type EmbedderOptimizerName,
  type TextEmbedderCompileArgs,
} from './models/embedder_compile';
export {TextEmbedderPreprocessor} from './models/text_embedder_preprocessor';
export {type TokenIds, type TokenIdsOrBatch, Tokenizer} from './models/tokenizer';
export {type ModelCompileArgs, type ModelFitArgs, type ModelTargets} from './models/model';
export {type NestedArray, type NumberArray, type ShapedArray, type TensorOrArray} from './layers/tensor_like';
export {
  type AttentionCallArgs,
  CachedGemma3Attention,
  type CachedGemma3AttentionArgs,
} from './models/gemma3/gemma3_attention';
export {
  Gemma3Backbone,
  type Gemma3BackboneArgs,
  type Gemma3BackboneConfig,
  type Gemma3BackboneOptions,
  type Gemma3EmbeddingOutputs,
} from './models/gemma3/gemma3_backbone';
export {Gemma3CausalLM, type Gemma3CausalLMArgs, type Gemma3CausalLMOptions} from './models/gemma3/gemma3_causal_lm';
export {
  Gemma3CausalLMPreprocessor,
  type Gemma3CausalLMPreprocessorArgs,
  type TokenBatch,
  type TrainingBatch,
} from './models/gemma3/gemma3_causal_lm_preprocessor';
export {
  type BlockCallArgs,
  Gemma3DecoderBlock,
  type Gemma3DecoderBlockArgs,
} from './models/gemma3/gemma3_decoder_block';
export {Gemma3ImageConverter, type Gemma3ImageConverterArgs} from './models/gemma3/gemma3_image_converter';
export {
  Gemma3InterleaveEmbeddings,
  type Gemma3InterleaveEmbeddingsArgs,
  Gemma3MeanPooling,
} from './models/gemma3/gemma3_layers';
export {
  Gemma3TextEmbedder,
  type Gemma3TextEmbedderArgs,
  type PoolingArgs,
  type PoolingMode,
} from './models/gemma3/gemma3_text_embedder';
export {
  Gemma3TextEmbedderPreprocessor,
  type Gemma3TextEmbedderPreprocessorArgs,
  type Segments,
  type Truncation,
} from './models/gemma3/gemma3_text_embedder_preprocessor';
export {
  Gemma3Tokenizer,
  type Gemma3TokenizerArgs,
  type Gemma3TokenizerConfig,
  type Gemma3TokenizerOptions,
} from './models/gemma3/gemma3_tokenizer';
export {
  Gemma3VisionEncoder,
  type Gemma3VisionEncoderArgs,
  Gemma3VisionEncoderBlock,
  type Gemma3VisionEncoderBlockArgs,
} from './models/gemma3/gemma3_vision_encoder';
export {type ImagesOfPrompt, type PromptImages} from './models/gemma3/parts/prompt_images';
export {type GenerationInputs, type PromptsAndResponses} from './models/gemma3/parts/prompt_rows';
export {
  Gemma3VisionAttention,
  type Gemma3VisionAttentionArgs,
  Gemma3VisionEmbedding,
  type Gemma3VisionEmbeddingArgs,
  Gemma3VisionEncoderLayer,
  type Gemma3VisionEncoderLayerArgs,
  type VisionCallArgs,
} from './models/gemma3/parts/vision_layers';
export {
  Gemma3VisionAveragePooling,
  type Gemma3VisionAveragePoolingArgs,
  Gemma3VisionOutput,
  type Gemma3VisionOutputArgs,
} from './models/gemma3/parts/vision_output';
export {type ImageRequest} from './images/image_address';
export {type ImageLike} from './images/image_like';
export {type ImageOrientation} from './images/choices';
export {type Interpolation} from './images/choices';
export {SentencePiece, type StreamingDecoder} from './tokenizers/sentence_piece';

// === Generation ===

export * as samplers from './generation/samplers';
export {type ChatArgs, type ChatOptions, ChatSession} from './generation/chat_session';
export {type Prompt} from './generation/decoder';
export {type Ending, type FinishReason, type Usage} from './generation/ending';
export {type GenerationRequest} from './generation/generation';
export {type CacheDtype, KvCache, type KvCacheArgs} from './generation/kv_cache';
export {type TokenLogprob, type TokenLogprobs} from './generation/logprobs';
export {type PrefillProgress} from './generation/prefill';
export {type SamplingOptions} from './generation/samplers/sampling_options';
export {GenerationSession, type SessionArgs} from './generation/session';
export {Gemma3Cache} from './models/gemma3/parts/cache';
export {type ScoreArgs} from './models/gemma3/parts/score';
export {
  type DetailsOptions,
  type GenerateOptions,
  type LogprobsOptions,
  type PromptTokens,
  type TextToken,
  type TextWithDetails,
  type TextWithLogprobs,
} from './models/generate_options';
export {type GeneratedTokens, type TokenInputs, type TokensWithLogprobs} from './models/token_inputs';
export {type VisionTensors} from './models/vision_tensors';
export {
  applyChatTemplate,
  type ChatMessage,
  type ChatTemplateOptions,
  type ImagePart,
  type TextPart,
} from './tokenizers/chat_template';
export {type AnsweredPrompt, answersOf, type Conversations} from './tokenizers/conversations';

// === Training ===

export * as callbacks from './training/callbacks';
export * as losses from './training/losses';
export * as metrics from './public/metrics';
export * as optimizers from './training/optimizers';
export {type LoraSource, type LoraTarget, type SaveLoraOptions} from './adapters/keras_lora';
export {type EnableLoraOptions} from './adapters/model_lora';
export {type ExportGgufOptions} from './adapters/gguf_lora';
export {type ExportPeftOptions} from './adapters/peft';
export {type QuantizationMode} from './layers/quantize';
export {type ClassWeights} from './training/class_weights';
export {type LabelsLike, type TrainingData, type TrainingTexts} from './training/examples';
export {
  type EvaluateArgs,
  type EvaluateDatasetArgs,
  type FitArgs,
  type FitCallbacks,
  type FitDatasetArgs,
  type FitLogs,
} from './training/fit_options';
export {type TrainingCompileArgs} from './training/setup';

// === Presets ===

export {convertPreset, type ConvertedPreset, type ConvertPresetOptions} from '../converters/convert_preset';
export {
  type ConversionDtype,
  type ConversionFormat,
  type ConversionFormatInfo,
  conversionFormats,
} from '../converters/formats';
export {type Json, type JsonObject} from './base/json';
export {type SaveProgress} from './checkpoints/checkpoint';
export {type SerializedObject} from './checkpoints/keras/serialized';
export {type ExportOptions} from './checkpoints/huggingface/export_model';
export {type LoadWeightsOptions, type SaveWeightsOptions} from './checkpoints/keras/weights_file';
export {type SaveToPresetOptions} from './checkpoints/keras/write_preset';
export {readPresetConfig} from './checkpoints/read_preset_config';
export {type LoadProgress} from './checkpoints/stored_weights';
export {type CachedModel, type FileProblem} from './hub/hub';
export {type DownloadProgress} from './hub/download';
export {
  cachedPresets,
  type DownloadedPreset,
  type DownloadOptions,
  downloadPreset,
  removeCachedPreset,
  type VerifiedPreset,
  verifyCachedPresets,
  type VerifyOptions,
} from './hub/on_demand';
export {type PresetEntry} from './hub/registry';

// === Parts ===

export * as files from './public/files';
export * as layers from './public/layers';
export * as weights from './public/weights';

// === Errors ===

export {ContextFullError, type MemoryFigures, OutOfMemoryError, ValueError} from './base/errors';
export {formatBytes} from './base/format_bytes';
