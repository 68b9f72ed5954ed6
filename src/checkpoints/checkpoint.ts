/**
 * The contract of a checkpoint format, which says where the files hold the parts of a model. The counterpart of
 * KerasHub's `PresetLoader`.
 */
import type * as tf from '@tensorflow/tfjs';
import {type PresetSink} from '../base/byte_sink';
import {type PresetSource} from '../base/byte_source';
import {type WeightFormat} from '../weights/dtype';
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
}

/** How `convertPreset` writes a format. Every folder also gets the JSON files of a Keras preset. */
export interface CheckpointWriter {
  /** Dtypes in which weights can be stored. */
  readonly dtypes: readonly WeightFormat[];
  /** Explains in errors why other dtypes are not written. */
  readonly dtypesNote?: string;
  /** Names of the options that only this format has. */
  readonly options: readonly string[];
  /** @throws ValueError on options that cannot be used. */
  checkOptions(options: WriteOptions): void;
  /**
   * Writes the weights.
   *
   * @returns the bytes of all weights.
   */
  write(sink: PresetSink, model: WrittenModel, options: WriteOptions): Promise<number>;
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
  open(source: PresetSource): Promise<Checkpoint>;
  /** Whether a file holds weights in this format: such files are removed when new weights are saved in their folder. */
  isWeightFile(path: string): boolean;
  readonly writer?: CheckpointWriter;
}
