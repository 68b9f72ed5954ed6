/**
 * Gemma 3 as TensorFlow.js layers.
 *
 * @module tfjs-gemma3
 */
export {
  type BackendDescription,
  type BackendName,
  backendNames,
  describeBackends,
  useBackend,
} from './backends/use_backend';
export {type SimdOptions} from './backends/simd';
export {ContextFullError, type MemoryFigures, OutOfMemoryError, ValueError} from './base/errors';
export {type ChatArgs, type ChatOptions, ChatSession} from './generation/chat_session';
export {formatBytes} from './base/format_bytes';
export {type JsonObject} from './base/json';
export {type GenerationRequest} from './generation/generation';
export {type Prompt} from './generation/decoder';
export {type TokenLogprob, type TokenLogprobs} from './generation/logprobs';
export {KvCache, type KvCacheArgs} from './generation/kv_cache';
export {type PrefillProgress} from './generation/prefill';
export * as samplers from './generation/samplers';
export {GenerationSession, type SessionArgs} from './generation/session';
export {BlobPreset} from './files/blob';
export {DirectoryHandlePreset} from './files/directory_handle';
export {type FileSource, type FileTarget} from './files/open_file';
export {MemoryFile} from './files/memory';
export {HttpPreset} from './files/http';
export {MemoryPreset} from './files/memory';
export {openPreset, type PresetLike} from './hub/open_preset';
export {type ByteSink, type PresetSink} from './base/byte_sink';
export {type ByteSource, MemorySource, type PresetSource} from './base/byte_source';
export {type ImageLike} from './images/image_like';
export {type Interpolation} from './images/resample';
export {Dense, type DenseArgs} from './layers/dense';
export {EinsumDense, type EinsumDenseArgs} from './layers/einsum_dense';
export {Layer, type LayerArgs} from './layers/layer';
export {LayerNormalization, type LayerNormalizationArgs} from './layers/layer_normalization';
export {type LoraArgs, LoraLayer, type LoraOptions} from './layers/lora';
export {type QuantizationMode} from './layers/quantize';
export {ReversibleEmbedding, type ReversibleEmbeddingArgs} from './layers/reversible_embedding';
export {RMSNormalization, type RMSNormalizationArgs} from './layers/rms_normalization';
export {RotaryEmbedding, type RotaryEmbeddingArgs} from './layers/rotary_embedding';
export {UnitNormalization, type UnitNormalizationArgs} from './layers/unit_normalization';
export {Backbone, type FromPresetOptions, type ModelInputs} from './models/backbone';
export {CausalLM, type CompileArgs} from './models/causal_lm';
export {
  type GenerateOptions,
  type LogprobsOptions,
  type TextToken,
  type TextWithLogprobs,
  type PromptTokens,
} from './models/generate_options';
export {type TokenInputs, type TokensWithLogprobs} from './models/token_inputs';
export {CachedGemma3Attention, type CachedGemma3AttentionArgs} from './models/gemma3/gemma3_attention';
export {
  Gemma3Backbone,
  type Gemma3BackboneArgs,
  type Gemma3BackboneConfig,
  type Gemma3EmbeddingOutputs,
} from './models/gemma3/gemma3_backbone';
export {Gemma3Cache} from './models/gemma3/parts/cache';
export {Gemma3CausalLM, type Gemma3CausalLMArgs} from './models/gemma3/gemma3_causal_lm';
export {
  Gemma3CausalLMPreprocessor,
  type Gemma3CausalLMPreprocessorArgs,
  type PromptsAndResponses,
  type TokenBatch,
  type TrainingBatch,
} from './models/gemma3/gemma3_causal_lm_preprocessor';
export {Gemma3DecoderBlock, type Gemma3DecoderBlockArgs} from './models/gemma3/gemma3_decoder_block';
export {Gemma3ImageConverter, type Gemma3ImageConverterArgs} from './models/gemma3/gemma3_image_converter';
export {Gemma3InterleaveEmbeddings} from './models/gemma3/gemma3_interleave_embeddings';
export {Gemma3MeanPooling} from './models/gemma3/gemma3_mean_pooling';
export {type PresetEntry} from './hub/registry';
export {type ImagesOfPrompt, type PromptImages} from './models/gemma3/parts/prompt_images';
export {type ExportPeftOptions} from './adapters/peft';
export {type ScoreArgs} from './models/gemma3/parts/score';
export {Gemma3TextEmbedder, type Gemma3TextEmbedderArgs, type PoolingMode} from './models/gemma3/gemma3_text_embedder';
export {
  Gemma3TextEmbedderPreprocessor,
  type Gemma3TextEmbedderPreprocessorArgs,
  type Segments,
  type Truncation,
} from './models/gemma3/gemma3_text_embedder_preprocessor';
export {Gemma3Tokenizer, type Gemma3TokenizerArgs} from './models/gemma3/gemma3_tokenizer';
export {Gemma3VisionEncoder, type Gemma3VisionEncoderArgs} from './models/gemma3/gemma3_vision_encoder';
export {type EnableLoraOptions} from './adapters/model_lora';
export {memoryByDtype, type WeightMemory} from './models/memory';
export {type Embeddings, type EncodeOptions, TextEmbedder, type TextEmbedderCompileArgs} from './models/text_embedder';
export {convertPreset, type ConvertedPreset, type ConvertPresetOptions} from '../converters/convert_preset';
export {type ConversionFormat, type ConversionFormatInfo, conversionFormats} from '../converters/formats';
export {type SerializedObject} from './checkpoints/keras/serialized';
export {folderHandler} from './checkpoints/tfjs/folder_handler';
export {type LoraSource, type LoraTarget, type SaveLoraOptions} from './adapters/keras_lora';
export {listPresetVariables} from './checkpoints/load_weights';
export {type LoadProgress} from './checkpoints/stored_weights';
export {type PresetTarget} from './files/open_folder';
export {type SaveProgress} from './checkpoints/checkpoint';
export {type SaveToPresetOptions} from './checkpoints/keras/write_preset';
export {openCheckpoint, readPresetConfig} from './checkpoints/open_checkpoint';
export {
  applyChatTemplate,
  type ChatMessage,
  type ChatTemplateOptions,
  type ImagePart,
  type TextPart,
} from './tokenizers/chat_template';
export {SentencePiece, type StreamingDecoder} from './tokenizers/sentence_piece';
export {type LabelsLike, type TrainingData, type TrainingTexts} from './training/examples';
export {
  type EvaluateArgs,
  type EvaluateDatasetArgs,
  type FitArgs,
  type FitCallbacks,
  type FitDatasetArgs,
  type FitLogs,
} from './training/fit_options';
export * as losses from './training/losses';
export * as optimizers from './training/optimizers';
export {type TrainingCompileArgs} from './training/training';
export {type Dtype, parseDtype} from './weights/dtype';
export {PackedWeight} from './weights/packed_weight';
export {Weight} from './weights/weight';
