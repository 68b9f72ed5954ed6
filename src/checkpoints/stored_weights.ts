import {type AnyWeight} from '../layers/layer';
import {type Hdf5Dataset} from '../formats/hdf5';
import {type PackedFormat} from '../weights/dtype';

/** State of a load, told after each piece. */
export interface LoadProgress {
  file: string;
  /** Bytes of variables read so far, over all files. */
  loaded: number;
  total: number;
}

export interface LoadOptions {
  onProgress?: (progress: LoadProgress) => void;
  signal?: AbortSignal;
}

/** A variable of a preset, in whatever files it has. */
export interface StoredVariable {
  dataset: Hdf5Dataset;
  file: string;
  /** For one that is packed: only a weight that rests in the same way can take it. */
  packed?: PackedEntry;
}

/** All stored variables of a preset, and what is open for them. */
export interface StoredWeights {
  /** By the paths of Keras, or in a folder of tfjs by the names of weights. */
  readonly variables: ReadonlyMap<string, StoredVariable>;
  /** What a weight is called there, given its path in Keras. */
  keyOf(path: string, weight: AnyWeight): string;
  close(): Promise<void>;
}

/** How a packed weight rests in a file. */
export interface PackedEntry {
  readonly format: PackedFormat;
  /** Name of the physical order, "logical" for bfloat16 values one after another. */
  readonly order: string;
  /** Of the int32 tensor that tfjs sees. */
  readonly physicalShape: readonly number[];
}
