/** Weights as a checkpoint stores them, independently of its format. */
import {type PackedFormat} from '../weights/dtype';
import {type AnyWeight} from '../weights/packed_weight';
import {type ValueStream} from '../weights/value_stream';

/** Progress of a load, reported after each piece. */
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

/** Bits that are stored in packed form. Only a weight of the same format and order can be filled with them. */
export interface PackedBits {
  readonly format: PackedFormat;
  /** Name of the physical order; see `Packing.order`. */
  readonly order: string;
  readonly physicalShape: readonly number[];
  /** Fills `target` with the bits from byte `offset` on. */
  readInto(offset: number, target: Uint8Array): Promise<void>;
}

/** A variable in a file. */
export interface StoredVariable {
  /** The logical shape, which is also the shape of the weight. */
  readonly shape: readonly number[];
  /** Number format in the file; for packed bits, the packed format. */
  readonly dtype: string;
  readonly byteLength: number;
  /** Name of the file, for errors and progress. */
  readonly file: string;
  /** Set if the file holds packed bits, which have no stream of values. */
  readonly packed?: PackedBits;
  /**
   * The values in logical order.
   *
   * @param onRead is called with the number of bytes after each read.
   */
  stream(onRead?: (bytes: number) => void): ValueStream;
}

/** All stored variables of a checkpoint. Close it to close their files. */
export interface StoredWeights {
  /** How the weights are divided into files, as users see it: "single", "sharded" or "tfjs". */
  readonly layout: string;
  readonly variables: ReadonlyMap<string, StoredVariable>;
  /** The key of a weight in `variables`. `path` is its path in Keras' files. */
  keyOf(path: string, weight: AnyWeight): string;
  close(): Promise<void>;
}
