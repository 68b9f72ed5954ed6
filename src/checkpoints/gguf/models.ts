/** The contract between a model and GGUF files: models register here, because this floor is below them. */
import {type GgufFile, type GgufWriter} from '../../formats/gguf';
import {type CheckpointPart} from '../checkpoint';
import {type ForeignTensor, type NamedWeight} from '../foreign_names';
import {type SerializedObject} from '../keras/serialized';

/** The files of a model. */
export interface GgufFiles {
  /** Name of the model's file in errors. */
  readonly name: string;
  readonly model: GgufFile;
  /** The vision encoder, which llama.cpp keeps in a file of its own; null without one. */
  readonly vision: GgufFile | null;
  /** Name of the vision encoder's file in errors. */
  readonly visionName: string;
}

/** A model that is being written: its configuration in Keras' form, and what else a file has. */
export interface WrittenParts {
  /** Name of the model. */
  readonly name: string;
  readonly backbone: SerializedObject;
  readonly task: SerializedObject | null;
  readonly tokenizer: SerializedObject | null;
  readonly imageConverter: SerializedObject | null;
  /** The vocabulary, as a SentencePiece model. */
  readonly vocabulary: Uint8Array;
  /** The chat template of the model in Jinja; null if it has none. */
  readonly template: string | null;
  readonly parameters: number;
}

/** A file of a model. */
export interface WrittenFile {
  /** Whether it holds the vision encoder. */
  readonly vision: boolean;
  /** Whether it holds a tensor. */
  holds(tensor: string): boolean;
  /** @param fileType llama.cpp's number of the types of most tensors. */
  addMetadata(file: GgufWriter, fileType: number): void;
  /** Whether a tensor is stored as F32 in files of any type. Those of one axis always are. */
  keepsFloats(tensor: string): boolean;
}

/** A model as llama.cpp has it. */
export interface GgufModel {
  /** Values of `general.architecture`. */
  readonly architectures: readonly string[];
  /** Value of `clip.projector_type` of its vision encoder. */
  readonly projector: string;
  /**
   * The configuration of a part in Keras' form; null if the files have none.
   *
   * @throws ValueError naming the metadata that is missing, or that this model cannot represent.
   */
  part(part: CheckpointPart, files: GgufFiles): SerializedObject | null;
  /**
   * The two files that a file would be, if other programs have put both into one or use other names there; undefined for
   * files as llama.cpp has them.
   */
  translated?(file: GgufFile): {model: GgufFile; vision: GgufFile | null} | undefined;
  /** Whether a vision encoder of this kind is for a model: its embeddings are as wide as those of the text. */
  fitsVision(text: GgufFile, vision: GgufFile): boolean;
  /** What users should know about the files, apart from errors. */
  warnings(files: GgufFiles): string[];
  /** @throws Error if llama.cpp has no such weight. */
  tensorOf(weight: NamedWeight): ForeignTensor;
  /** Whether llama.cpp applies LoRA to the matrix of a tensor. */
  adapts(tensor: string): boolean;
  /** Class of the backbone that can be written. */
  readonly writes: string;
  /**
   * The files to write.
   *
   * @throws ValueError naming what llama.cpp cannot compute.
   */
  filesOf(parts: WrittenParts): WrittenFile[];
  /** A tensor that must equal another one, because the model here has both in one weight: the head and the embedding. */
  readonly tied: {readonly tensor: string; readonly equals: string};
  /** The tensors of a file under the names of `tensorOf`, by their names there: older programs had others. */
  currentNames(file: GgufFile): ReadonlyMap<string, string>;
}

const loaders: (() => Promise<GgufModel>)[] = [];

/** Registers a model of llama.cpp. It is loaded with the first file that is opened. */
export function registerGgufModel(load: () => Promise<GgufModel>): void {
  loaders.push(load);
}

/** All models that can be read. */
export const ggufModels = (): Promise<GgufModel[]> => Promise.all(loaders.map(load => load()));
