/** Weights as a checkpoint stores them, independently of its format. */
import {announceReads, type BytePlace} from '../base/byte_source';
import {type PackedFormat} from '../weights/dtype';
import {type AnyWeight} from '../weights/packed_weight';
import {type ValueStream} from '../weights/value_stream';
import {ArrangedStream, type Arrangement, TensorBuffer} from './arrangement';
import {type NamedWeight} from './foreign_names';

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
  /** The logical shape in the file. It is also the shape of the weight, unless `StoredWeights.arrangementOf` differs. */
  readonly shape: readonly number[];
  /** Number format in the file; for packed bits, the packed format. */
  readonly dtype: string;
  readonly byteLength: number;
  /** Name of the file, for errors and progress. */
  readonly file: string;
  /** Where its bytes are, in the order in which they are read. Empty if unknown. */
  readonly places: readonly BytePlace[];
  /** Whether the file holds integers with scales in a format of another program, which `stream` turns into floats. */
  readonly quantized?: boolean;
  /** Why values cannot be read, after "<name> in <file>"; left out if they can. */
  readonly unreadable?: string;
  /**
   * The variable as what this weight is filled from, with the weight's shape; undefined if it does not fit. Only for
   * files that do not describe the variable completely: such variables have no stream of their own.
   */
  fitted?(weight: NamedWeight): StoredVariable | undefined;
  /** Set if the file holds packed bits, which have no stream of values. */
  readonly packed?: PackedBits;
  /**
   * The values in the order of the file.
   *
   * @param onRead is called with the number of bytes after each read.
   */
  stream(onRead?: (bytes: number) => void): ValueStream;
}

/** All stored variables of a checkpoint. Close it to close their files. */
export interface StoredWeights {
  /** How the weights are divided into files, in users' terms: "single", "sharded" or "tfjs". */
  readonly layout: string;
  readonly variables: ReadonlyMap<string, StoredVariable>;
  /** The key of a weight in `variables`. `path` is its path in Keras' files. */
  keyOf(path: string, weight: AnyWeight): string;
  /** How the files arrange the values of a weight. Left out by formats that arrange all of them as Keras does. */
  arrangementOf?(weight: AnyWeight): Arrangement;
  /**
   * Checks values that must be equal, such as those of a head that is stored in addition to the embedding. Called
   * before weights are read, but not when they are only listed.
   *
   * @throws ValueError if they differ.
   */
  checkValues?(signal?: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** The shape that the variable of a weight must have in the files. */
export const shapeInFiles = ({arrangementOf}: StoredWeights, weight: AnyWeight): readonly number[] =>
  arrangementOf ? arrangementOf(weight).shape : weight.shape;

/** The variable that a weight is filled from; undefined if there is none. */
export function variableOf(stored: StoredWeights, path: string, weight: AnyWeight): StoredVariable | undefined {
  const variable = stored.variables.get(stored.keyOf(path, weight));
  return variable?.fitted?.(weight) ?? variable;
}

/** Opens the values of weights, in the weights' own order. Meant for one weight after another. */
export function valueReader(
  stored: StoredWeights,
): (weight: AnyWeight, path: string, onRead?: (bytes: number) => void) => ValueStream {
  const buffer = new TensorBuffer();
  return (weight, path, onRead) => {
    const {stream, dtype} = variableOf(stored, path, weight)!;
    const values = stream(onRead);
    if (!stored.arrangementOf) return values;
    return new ArrangedStream(weight.shape, values, stored.arrangementOf(weight), dtype === 'bfloat16', buffer);
  };
}

/** Announces to the files that these variables will be read, in this order. */
export const announceVariables = (variables: Iterable<StoredVariable>): void =>
  announceReads([...variables].flatMap(({places}) => places));

/**
 * Sorts what is read from variables by position: file after file, each from beginning to end, so that neighbours are
 * read together. Variables without a known position come last.
 */
export function inFileOrder<T extends {readonly variable: StoredVariable}>(reads: readonly T[]): T[] {
  const files = new Map<unknown, number>();
  for (const {variable} of reads) {
    for (const {source} of variable.places) if (!files.has(source)) files.set(source, files.size);
  }
  const place = ({variable: {places}}: T): [number, number] => {
    const [first] = places;
    return first ? [files.get(first.source)!, first.start] : [Infinity, 0];
  };
  return [...reads].sort((a, b) => {
    const [[fileA, startA], [fileB, startB]] = [place(a), place(b)];
    return fileA === fileB ? startA - startB : fileA - fileB;
  });
}
