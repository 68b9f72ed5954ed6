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
export {type SimdOptions} from './backends/simd';

// === Models ===

export {Backbone, type FromPresetOptions, type ModelInputs} from './models/backbone';
export {CausalLM, type CompileArgs} from './models/causal_lm';
export {type Embeddings, type EncodeOptions, TextEmbedder, type TextEmbedderCompileArgs} from './models/text_embedder';
export {
  type AttentionCallArgs,
  CachedGemma3Attention,
  type CachedGemma3AttentionArgs,
} from './models/gemma3/gemma3_attention';
export {
  Gemma3Backbone,
  type Gemma3BackboneArgs,
  type Gemma3BackboneConfig,
  type Gemma3EmbeddingOutputs,
} from './models/gemma3/gemma3_backbone';
export {Gemma3CausalLM, type Gemma3CausalLMArgs} from './models/gemma3/gemma3_causal_lm';
export {
  Gemma3CausalLMPreprocessor,
  type Gemma3CausalLMPreprocessorArgs,
  type GenerationInputs,
  type PromptsAndResponses,
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
export {Gemma3Tokenizer, type Gemma3TokenizerArgs, type Gemma3TokenizerConfig} from './models/gemma3/gemma3_tokenizer';
export {Gemma3VisionEncoder, type Gemma3VisionEncoderArgs} from './models/gemma3/gemma3_vision_encoder';
export {type ImagesOfPrompt, type PromptImages} from './models/gemma3/parts/prompt_images';
export {type ImageLike} from './images/image_like';
export {type Interpolation} from './images/resample';
export {SentencePiece, type StreamingDecoder} from './tokenizers/sentence_piece';

// === Generation ===

export * as samplers from './generation/samplers';
export {type ChatArgs, type ChatOptions, ChatSession} from './generation/chat_session';
export {type Prompt} from './generation/decoder';
export {type GenerationRequest} from './generation/generation';
export {KvCache, type KvCacheArgs} from './generation/kv_cache';
export {type TokenLogprob, type TokenLogprobs} from './generation/logprobs';
export {type PrefillProgress} from './generation/prefill';
export {GenerationSession, type SessionArgs} from './generation/session';
export {Gemma3Cache} from './models/gemma3/parts/cache';
export {type ScoreArgs} from './models/gemma3/parts/score';
export {
  type GenerateOptions,
  type LogprobsOptions,
  type PromptTokens,
  type TextToken,
  type TextWithLogprobs,
} from './models/generate_options';
export {type TokenInputs, type TokensWithLogprobs} from './models/token_inputs';
export {type VisionTensors} from './models/vision_tensors';
export {
  applyChatTemplate,
  type ChatMessage,
  type ChatTemplateOptions,
  type ImagePart,
  type TextPart,
} from './tokenizers/chat_template';

// === Training ===

export * as losses from './training/losses';
export * as optimizers from './training/optimizers';
export {type LoraSource, type LoraTarget, type SaveLoraOptions} from './adapters/keras_lora';
export {type EnableLoraOptions} from './adapters/model_lora';
export {type ExportPeftOptions} from './adapters/peft';
export {type QuantizationMode} from './layers/quantize';
export {type LabelsLike, type TrainingData, type TrainingTexts} from './training/examples';
export {
  type EvaluateArgs,
  type EvaluateDatasetArgs,
  type FitArgs,
  type FitCallbacks,
  type FitDatasetArgs,
  type FitLogs,
} from './training/fit_options';
export {type TrainingCompileArgs} from './training/training';

// === Presets ===

export {convertPreset, type ConvertedPreset, type ConvertPresetOptions} from '../converters/convert_preset';
export {type ConversionFormat, type ConversionFormatInfo, conversionFormats} from '../converters/formats';
export {type Json, type JsonObject} from './base/json';
export {type SaveProgress} from './checkpoints/checkpoint';
export {type SerializedObject} from './checkpoints/keras/serialized';
export {type SaveToPresetOptions} from './checkpoints/keras/write_preset';
export {readPresetConfig} from './checkpoints/open_checkpoint';
export {type LoadProgress} from './checkpoints/stored_weights';
export {type PresetEntry} from './hub/registry';

// === Parts ===

export * as files from './public/files';
export * as layers from './public/layers';
export * as weights from './public/weights';

// === Errors ===

export {ContextFullError, type MemoryFigures, OutOfMemoryError, ValueError} from './base/errors';
export {formatBytes} from './base/format_bytes';
