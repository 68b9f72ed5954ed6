/** The contract between a model and GGUF files: models register here, because this folder is on a lower floor. */
import {type GgufFile, type GgufWriter} from '../../formats/gguf';
import {type CheckpointPart} from '../checkpoint';
import {type ForeignTensor, type NamedWeight} from '../foreign_names';
import {type SerializedObject} from '../keras/serialized';

/** The files of a model. */
export interface GgufFiles {
  /** Name of the model's file in errors. */
  readonly name: string;
  readonly model: GgufFile;
  /** The vision encoder, which llama.cpp keeps in a separate file; null without one. */
  readonly vision: GgufFile | null;
  /** Name of the vision encoder's file in errors. */
  readonly visionName: string;
}

/** A model to write: its configuration in Keras' form, and everything else that a file contains. */
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

/** A model in llama.cpp's terms. */
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
   * The two files of llama.cpp that correspond to a file, if another program has put both into one or uses other names;
   * undefined for files in llama.cpp's form.
   */
  translated?(file: GgufFile): {model: GgufFile; vision: GgufFile | null} | undefined;
  /** Whether a vision encoder of this kind is for a model: its embeddings must be as wide as the text embeddings. */
  fitsVision(text: GgufFile, vision: GgufFile): boolean;
  /** Warnings for users about the files. */
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
  /** A tensor that must equal another one, because this package has one weight for both: the head and the embedding. */
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
