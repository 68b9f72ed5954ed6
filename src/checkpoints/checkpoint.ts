/**
 * The contract of a checkpoint format, which says where the files hold the parts of a model. The counterpart of
 * KerasHub's `PresetLoader`.
 */
import type * as tf from '@tensorflow/tfjs';
import {type PresetSink} from '../base/byte_sink';
import {type PresetSource} from '../base/byte_source';
import {type FileSource} from '../files/open_file';
import {type OpenPresetOptions} from '../hub/resolver';
import {type AnyWeight} from '../weights/packed_weight';
import {type OpenValues} from '../weights/value_stream';
import {type SerializedObject} from './keras/serialized';
import {type StoredWeights} from './stored_weights';

/** The parts of a model that have a configuration. */
export type CheckpointPart = 'backbone' | 'task' | 'preprocessor' | 'imageConverter' | 'tokenizer';

/** An open checkpoint. It is opened once, and then everything that a model needs is read from it. */
export interface Checkpoint {
  /** Its name in error messages: a path or an address. */
  readonly name: string;
  /** Name of its format, such as "keras". */
  readonly format: string;
  /** Name of its format as users see it, such as "Keras HDF5". */
  readonly title: string;
  /**
   * The configuration of a part as Keras serializes it; null if the checkpoint has none.
   *
   * @param className the class that is expected.
   * @throws ValueError if it is damaged or belongs to a different class, or if the configuration of a backbone is
   * missing.
   */
  config(part: CheckpointPart, className?: string): Promise<SerializedObject | null>;
  /** The vocabulary, as a SentencePiece model. */
  vocabulary(): Promise<Uint8Array>;
  /** Whether there are weight files: a folder can hold only a tokenizer, or only a configuration. */
  hasWeights(): Promise<boolean>;
  /**
   * Opens the weight files.
   *
   * @throws ValueError if there are none, or they cannot be read.
   */
  weights(): Promise<StoredWeights>;
  /**
   * The files of a Keras preset, apart from the backbone's configuration and weights. Paths are relative to the preset.
   */
  companions(): AsyncIterable<{path: string; bytes: Uint8Array}>;
  /**
   * Its unchanged files, apart from weights, for a writer of the same format. Left out by formats whose files
   * `companions` has.
   */
  originals?(): AsyncIterable<{path: string; bytes: Uint8Array}>;
  /** The chat template as Jinja text; null if it has none. Left out by formats that cannot store one. */
  chatTemplate?(): Promise<string | null>;
  /** May be called more than once. */
  close(): Promise<void>;
}

/** Progress of a save, reported after each piece. */
export interface SaveProgress {
  file: string;
  /** Bytes of variables written so far, over all files. */
  saved: number;
  total: number;
}

/** Options of every writer. */
export interface WriteOptions {
  /** One of the writer's `dtypes`. Defaults to the dtype of the model. */
  dtype?: string;
  /** The single file that is the target; left out for a folder. */
  file?: {
    /** Its name in the sink. */
    readonly name: string;
    /** Whether no other file can be written next to it. */
    readonly alone: boolean;
  };
  onProgress?: (progress: SaveProgress) => void;
  signal?: AbortSignal;
}

/** The model that a writer writes. */
export interface WrittenModel {
  readonly backbone: tf.LayersModel;
  /** The values of a weight. `path` is its path in Keras' files. */
  open(weight: AnyWeight, path: string): OpenValues;
  /** The layers of the whole task as tfjs serializes them. */
  topology(): unknown;
  /** The configuration of a part as Keras serializes it, in the dtype of the backbone; null if the model has none. */
  config(part: CheckpointPart): Promise<SerializedObject | null>;
  /** The vocabulary, as a SentencePiece model; null if the model has none. */
  vocabulary(): Promise<Uint8Array | null>;
  /** The checkpoint that is converted. Left out for a model in memory. */
  readonly source?: Checkpoint;
}

/** How `convertPreset` writes a format. */
export interface CheckpointWriter {
  /**
   * Whether the folder is a Keras preset as well: then it also gets the JSON files and the vocabulary of one. A writer of
   * any other folder writes all of its files.
   */
  readonly isPreset: boolean;
  /** Ending of the name of a single file that can be the target instead of a folder. */
  readonly fileEnding?: string;
  /**
   * Whether it can write weights that are stored as integers, from their values. The backbone then keeps its dtype, and
   * `dtype` says only how the new files store it.
   */
  readonly takesIntegers?: boolean;
  /** Dtypes in which weights can be stored. Those that Keras has too become the dtype of the backbone. */
  readonly dtypes: readonly string[];
  /** The name that the files use for a requested dtype, or for the model's. Left out if it is the same. */
  storedDtype?(dtype: string): string;
  /** Explains in errors why other dtypes are not written. */
  readonly dtypesNote?: string;
  /** Names of the options that only some formats have, this one among them. */
  readonly options: readonly string[];
  /** Whether a file of an older model in the folder, apart from weights, would be mistaken for one of the new model. */
  obsolete?(path: string): boolean;
  /** @throws ValueError on options that cannot be used. */
  checkOptions(options: WriteOptions): void;
  /**
   * Writes the weights, and all other files if the folder is not a Keras preset.
   *
   * @returns the bytes of all weights.
   */
  write(sink: PresetSink, model: WrittenModel, options: WriteOptions): Promise<number>;
}

/** Options of opening a checkpoint that only some formats have. */
export interface OpenOptions {
  /**
   * The file of the vision encoder, which is separate in GGUF, or its name on a hub (`hf://…/mmproj-….gguf`). At an
   * http(s) address, `headers` are sent only if the model is on the same server. Defaults to the file next to the
   * model's, if there is one.
   */
  mmproj?: FileSource;
}

/** What a format gets to open a checkpoint. */
export interface FormatOptions extends OpenOptions {
  /** How the files of the checkpoint are requested. */
  readonly http?: OpenPresetOptions;
  /** What the user asked for, if it is a name: downloaded files are elsewhere. */
  readonly asked?: unknown;
  /** Opens a file that is elsewhere by its name on a hub. */
  readonly openNamed?: (name: string, options: OpenPresetOptions) => Promise<PresetSource>;
}

/** A format of checkpoints. To add one: a folder next to `keras/`, and a line in `all.ts`. */
export interface CheckpointFormat {
  readonly name: string;
  /** Whether a folder holds weights in this format. */
  recognizes(source: PresetSource): Promise<boolean>;
  /**
   * Implementations must declare the return type `Promise<Checkpoint>`, because type declarations cannot name a class
   * that is not exported.
   */
  open(source: PresetSource, options?: FormatOptions): Promise<Checkpoint>;
  /** Whether a file holds weights in this format: such files are removed when new weights are saved in their folder. */
  isWeightFile(path: string): boolean;
  readonly writer?: CheckpointWriter;
}
