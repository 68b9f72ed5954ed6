/**
 * The base classes, each with the classes that presets hold. Bundlers leave out what a program does not name, so a
 * program that only calls `CausalLM.fromPreset` would lack Gemma3CausalLM. In the build for bundlers, the index takes
 * base classes from here (`scripts/join_modules.ts`).
 */
import {Backbone as BackboneBase} from '../models/backbone';
import {CausalLM as CausalLMBase} from '../models/causal_lm';
import {CausalLMPreprocessor as CausalLMPreprocessorBase} from '../models/causal_lm_preprocessor';
import {Gemma3Backbone} from '../models/gemma3/gemma3_backbone';
import {Gemma3CausalLM} from '../models/gemma3/gemma3_causal_lm';
import {Gemma3CausalLMPreprocessor} from '../models/gemma3/gemma3_causal_lm_preprocessor';
import {Gemma3ImageConverter} from '../models/gemma3/gemma3_image_converter';
import {Gemma3TextEmbedder} from '../models/gemma3/gemma3_text_embedder';
import {Gemma3TextEmbedderPreprocessor} from '../models/gemma3/gemma3_text_embedder_preprocessor';
import {Gemma3Tokenizer} from '../models/gemma3/gemma3_tokenizer';
import {ImageConverter as ImageConverterBase} from '../models/image_converter';
import {Preprocessor as PreprocessorBase} from '../models/preprocessor';
import {SentencePieceTokenizer as SentencePieceTokenizerBase} from '../models/sentence_piece_tokenizer';
import {Task as TaskBase} from '../models/task';
import {TextEmbedder as TextEmbedderBase} from '../models/text_embedder';
import {TextEmbedderPreprocessor as TextEmbedderPreprocessorBase} from '../models/text_embedder_preprocessor';
import {Tokenizer as TokenizerBase} from '../models/tokenizer';

type Class = abstract new (...args: never[]) => object;

/** The base class. Naming the subclasses here keeps their files in a bundle; each file registers its class. */
function withClasses<T extends Class>(base: T, ...classes: readonly Class[]): T {
  const other = classes.find(cls => !(cls.prototype instanceof base));
  if (other) throw new TypeError(`Expected a subclass of ${base.name}. Received: ${other.name}.`);
  return base;
}

export const Backbone = /* @__PURE__ */ withClasses(BackboneBase, Gemma3Backbone);
export const CausalLM = /* @__PURE__ */ withClasses(CausalLMBase, Gemma3CausalLM);
export const CausalLMPreprocessor = /* @__PURE__ */ withClasses(CausalLMPreprocessorBase, Gemma3CausalLMPreprocessor);
export const ImageConverter = /* @__PURE__ */ withClasses(ImageConverterBase, Gemma3ImageConverter);
export const Preprocessor = /* @__PURE__ */ withClasses(
  PreprocessorBase,
  Gemma3CausalLMPreprocessor,
  Gemma3TextEmbedderPreprocessor,
);
export const SentencePieceTokenizer = /* @__PURE__ */ withClasses(SentencePieceTokenizerBase, Gemma3Tokenizer);
export const Task = /* @__PURE__ */ withClasses(TaskBase, Gemma3CausalLM, Gemma3TextEmbedder);
export const TextEmbedder = /* @__PURE__ */ withClasses(TextEmbedderBase, Gemma3TextEmbedder);
export const TextEmbedderPreprocessor = /* @__PURE__ */ withClasses(
  TextEmbedderPreprocessorBase,
  Gemma3TextEmbedderPreprocessor,
);
export const Tokenizer = /* @__PURE__ */ withClasses(TokenizerBase, Gemma3Tokenizer);
