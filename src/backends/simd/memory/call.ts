/**
 * Gathers in one bank everything that a command needs: its operands, its results and a workspace. Operands in other
 * banks are moved, not copied, so each move happens only once: the cache of a block joins the block's weights, and if a
 * bank filled up in the middle of a block, the block's last kernel joins the others.
 */
import type * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type Command} from '../engine/command';
import {type SimdEngine} from '../engine/simd_engine';
import {type Heap, type Place} from './heap';

/** Data types of tensors that can be in WebAssembly memory. */
export type NumericType = 'float32' | 'int32' | 'bool';

/** The part of the backend that a call uses: where tensors are, and how to move and create them. */
export interface TensorPlaces {
  readonly engine: Pick<SimdEngine, 'run'>;
  placeOf(tensor: {dataId: object}): Place | undefined;
  bytesOf(tensor: {dataId: object}): number;
  moveTo(tensor: {dataId: object}, place: Place): void;
  createAt(place: Place, shape: number[], dtype: NumericType): tf.TensorInfo;
  words(bank: number): {floats: Float32Array; ints: Int32Array};
}

/** Operands by name. Optional operands may be missing. */
export type Operands<Name extends string> = Readonly<Partial<Record<Name, tf.TensorInfo>>>;

export interface CallOptions<Name extends string> {
  /** Shape of the result. */
  shape: number[];
  /** Type of the result. Defaults to float32. */
  dtype?: NumericType;
  /** Shapes of further results, which are float32. */
  extraShapes?: readonly number[][];
  /** Bytes that the command needs while it runs. Defaults to 0. */
  workspaceBytes?: number;
  /**
   * Names of operands, such as weights. The bank that holds most of their bytes is preferred. Defaults to all operands.
   */
  preferredBank?: readonly NoInfer<Name>[];
  /** If given, no other bank will do. */
  onlyBank?: number;
}

export class Call<Name extends string> {
  readonly bank: number;
  /** Address of the result. */
  readonly y: number;
  /** Address of the workspace. */
  readonly workspace: number;
  /** The further results. */
  readonly extraResults: tf.TensorInfo[];
  /** Addresses of the further results. */
  readonly extraOffsets: number[];
  private readonly result: tf.TensorInfo;
  private readonly workspaceBytes: number;

  /** @throws OutOfMemoryError if no bank has room for all of it. */
  constructor(
    private readonly places: TensorPlaces,
    private readonly heap: Heap,
    private readonly operands: Operands<Name>,
    {
      shape,
      dtype = 'float32',
      extraShapes = [],
      workspaceBytes = 0,
      preferredBank = Object.keys(operands) as Name[],
      onlyBank,
    }: CallOptions<Name>,
  ) {
    const resultBytes = sizeOf(shape) * (dtype === 'bool' ? 1 : 4);
    const extraBytes = extraShapes.map(shape => 4 * sizeOf(shape));
    const newBytes = [resultBytes, ...extraBytes, ...(workspaceBytes ? [workspaceBytes] : [])];
    const {bank, offsets, misplaced} = this.allocate(preferredBank, newBytes, onlyBank);
    misplaced.forEach((operand, i) => places.moveTo(operand, {bank, offset: offsets[newBytes.length + i]!}));
    this.bank = bank;
    this.y = offsets[0]!;
    this.extraOffsets = offsets.slice(1, 1 + extraShapes.length);
    this.workspace = workspaceBytes ? offsets[1 + extraShapes.length]! : 0;
    this.workspaceBytes = workspaceBytes;
    this.result = places.createAt({bank, offset: this.y}, shape, dtype);
    this.extraResults = extraShapes.map((shape, i) =>
      places.createAt({bank, offset: this.extraOffsets[i]!}, shape, 'float32'),
    );
  }

  /** Address of an operand. */
  at(name: Name): number {
    return this.places.placeOf(this.operands[name]!)!.offset;
  }

  /** Address of an operand, or 0 if it is missing. */
  maybeAt(name: Name): number {
    return this.operands[name] ? this.at(name) : 0;
  }

  /** The whole memory of the bank as numbers. */
  get words(): {floats: Float32Array; ints: Int32Array} {
    return this.places.words(this.bank);
  }

  /** Runs the commands in order, frees the workspace and returns the result. */
  run(...commands: Command[]): tf.TensorInfo {
    return this.runEach(commands);
  }

  /** Like {@link run}, for many commands: each is requested when the previous one has run. */
  runEach(commands: Iterable<Command>): tf.TensorInfo {
    try {
      for (const [command, args] of commands) this.places.engine.run(command, args, this.bank);
    } finally {
      if (this.workspaceBytes) this.heap.release({bank: this.bank, offset: this.workspace}, this.workspaceBytes);
    }
    return this.result;
  }

  /** Finds the best bank with room for the new bytes and for the operands that are in other banks. */
  private allocate(preferredBank: readonly Name[], newBytes: readonly number[], onlyBank?: number): Allocation {
    const bytesOf = (operand: tf.TensorInfo) => this.places.bytesOf(operand);
    for (const bank of onlyBank === undefined ? this.banksInOrder(preferredBank) : [onlyBank]) {
      const misplaced = this.misplaced(bank);
      const sizes = [...newBytes, ...misplaced.map(bytesOf)];
      const offsets = this.allocateIn(bank, sizes);
      if (offsets) return {bank, offsets, misplaced};
      if (onlyBank !== undefined) throw this.heap.outOfMemory(sizes.reduce((a, b) => a + b, 0));
    }
    // A new bank holds no operands yet.
    const misplaced = this.misplaced(this.heap.banks);
    const sizes = [...newBytes, ...misplaced.map(bytesOf)];
    const total = sizes.reduce((a, b) => a + b, 0);
    const bank = this.heap.extend(total) ? this.heap.banks - 1 : undefined;
    const offsets = bank === undefined ? undefined : this.allocateIn(bank, sizes);
    if (bank === undefined || !offsets) throw this.heap.outOfMemory(total);
    return {bank, offsets, misplaced};
  }

  /** Banks, ordered by how many bytes of these operands they hold, most first. */
  private banksInOrder(names: readonly Name[]): number[] {
    if (this.heap.banks === 1) return [0];
    const held = new Array<number>(this.heap.banks).fill(0);
    for (const name of names) {
      const place = this.places.placeOf(this.operands[name]!);
      if (place) held[place.bank]! += this.places.bytesOf(this.operands[name]!);
    }
    return held.map((_, bank) => bank).sort((a, b) => held[b]! - held[a]!);
  }

  /** Operands that are not in this bank, without duplicates. */
  private misplaced(bank: number): tf.TensorInfo[] {
    const operands: tf.TensorInfo[] = Object.values(this.operands);
    const misplaced = operands.filter(operand => this.places.placeOf(operand)?.bank !== bank);
    if (misplaced.length < 2) return misplaced;
    return [...new Map(misplaced.map(operand => [operand.dataId, operand])).values()];
  }

  /** Allocates blocks of these sizes, all or none, and returns their offsets. */
  private allocateIn(bank: number, sizes: readonly number[]): number[] | undefined {
    const offsets: number[] = [];
    for (const bytes of sizes) {
      const offset = this.heap.allocateIn(bank, bytes);
      if (offset === null) {
        offsets.forEach((at, i) => this.heap.release({bank, offset: at}, sizes[i]!));
        return undefined;
      }
      offsets.push(offset);
    }
    return offsets;
  }
}

interface Allocation {
  bank: number;
  offsets: number[];
  misplaced: tf.TensorInfo[];
}
