/** Weights as a checkpoint stores them, whatever its format. */
import {type PackedFormat} from '../weights/dtype';
import {type ValueStream} from '../weights/value_stream';
import {type AnyWeight} from '../weights/packed_weight';

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

/** Bits that are stored packed: only a weight of the same format and order can take them. */
export interface PackedBits {
  readonly format: PackedFormat;
  /** Name of the physical order, as `Packing.order`. */
  readonly order: string;
  readonly physicalShape: readonly number[];
  /** Fills `target` with the bits from byte `offset` on. */
  readInto(offset: number, target: Uint8Array): Promise<void>;
}

/** A variable in a file. */
export interface StoredVariable {
  /** The logical shape, as the weight has it. */
  readonly shape: readonly number[];
  /** Number format in the file; for packed bits their format. */
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
  /** How the weights are divided into files, for people: "single", "sharded". */
  readonly layout: string;
  readonly variables: ReadonlyMap<string, StoredVariable>;
  /** The key of a weight in `variables`, from its path in Keras. */
  keyOf(path: string, weight: AnyWeight): string;
  close(): Promise<void>;
}
