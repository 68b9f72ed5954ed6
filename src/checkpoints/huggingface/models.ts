/**
 * The contract between a model and Hugging Face folders: models register here, because this folder is on a lower floor.
 */
import {type PresetSource} from '../../base/byte_source';
import {type JsonObject} from '../../base/json';
import {type CheckpointPart} from '../checkpoint';
import {type VocabularyNotes} from '../../tokenizers/write_tokenizer_json';
import {type ForeignNames, type ForeignTensor, type NamedWeight} from '../foreign_names';
import {type SerializedObject} from '../keras/serialized';

/** The files of a folder that describe a model. */
export interface HuggingFaceFiles {
  readonly source: PresetSource;
  /** The contents of `config.json`. */
  readonly config: JsonObject;
  /** A JSON file of the folder; null if there is none. */
  json(path: string): Promise<JsonObject | null>;
  /** The text of a file of the folder; null if there is none. */
  text(path: string): Promise<string | null>;
  /** The chat template with its file, whose text is null if it is not a string; null if there is none. */
  chatTemplate(): Promise<{file: string; text: string | null} | null>;
  /** The modules of sentence-transformers, in the order of `modules.json`; none for other folders. */
  readonly modules: readonly SentenceModule[];
  /** Whether there is a tokenizer. */
  hasVocabulary(): Promise<boolean>;
  /** The vocabulary, as a SentencePiece model. */
  vocabulary(): Promise<Uint8Array>;
}

/** A module of sentence-transformers. */
export interface SentenceModule {
  /** Its class without the package: Transformer, Pooling, Dense, Normalize. */
  readonly kind: string;
  /** Its folder; '' for the model itself. */
  readonly path: string;
  /** The contents of its `config.json`; empty if it has none. */
  readonly config: JsonObject;
}

/** Names of a model's tensors in a folder. */
export interface HuggingFaceNames {
  /** @throws Error if transformers has no such weight. */
  tensorOf(weight: NamedWeight): ForeignTensor;
  /** The names of a tensor in all versions of transformers, from its name in any version. The first is `tensorOf`'s. */
  namesOf(name: string): readonly string[];
  /** Whether a tensor is unused: buffers that are created again, parts of a class that the model leaves out. */
  isUnused(name: string): boolean;
  /** A tensor that must equal another one, because this package has one weight for both: the head and the embedding. */
  readonly tied: {readonly tensor: string; readonly equals: string};
}

/** The parts of a model to write, as Keras serializes them; null for those that it lacks. */
export interface WrittenParts {
  /** Null for a tokenizer alone, of which only its own files are written. */
  readonly backbone: SerializedObject | null;
  readonly task: SerializedObject | null;
  readonly preprocessor: SerializedObject | null;
  readonly tokenizer: SerializedObject | null;
  readonly imageConverter: SerializedObject | null;
  /** A SentencePiece model. */
  readonly vocabulary: Uint8Array | null;
  /** The chat template that the model came with, null if it had none; undefined if that is not known. */
  readonly chatTemplate: string | null | undefined;
}

/** What the model writes into a folder, apart from weights. */
export interface WrittenFolder {
  /** Names of tensors. One with a slash is in the weight file of a folder inside, such as `2_Dense/linear.weight`. */
  readonly names: ForeignNames;
  /** JSON files, and the text of other files. */
  readonly files: ReadonlyMap<string, JsonObject | JsonObject[] | string>;
  /** What `tokenizer.json` contains besides the vocabulary; null without a vocabulary. */
  readonly notes: VocabularyNotes | null;
}

/** A model in transformers' terms. */
export interface HuggingFaceModel {
  /** Classes of the backbone and the tokenizer that it writes. */
  readonly classes: {readonly backbone: string; readonly tokenizer: string};
  /** Values of `model_type` in `config.json`. */
  readonly modelTypes: readonly string[];
  /**
   * The configuration of a part in Keras' form; null if the folder has none.
   *
   * @throws ValueError naming the keys whose values this model cannot represent.
   */
  part(part: CheckpointPart, files: HuggingFaceFiles): Promise<SerializedObject | null>;
  names(files: HuggingFaceFiles): HuggingFaceNames;
  /**
   * The contents of a folder for a model.
   *
   * @throws ValueError naming what transformers cannot represent.
   */
  write(parts: WrittenParts): Promise<WrittenFolder>;
}

const loaders: (() => Promise<HuggingFaceModel>)[] = [];

/** Registers a model of transformers. It is loaded with the first folder that is opened. */
export function registerHuggingFaceModel(load: () => Promise<HuggingFaceModel>): void {
  loaders.push(load);
}

/** All models that can be read and written. */
export const huggingFaceModels = (): Promise<HuggingFaceModel[]> => Promise.all(loaders.map(load => load()));
