/**
 * Memory of a bank for values on their way from a file to a weight. What reads a file writes to it directly, if threads
 * share the memory: other memory moves when it grows, even while values are read.
 */
import {type SimdEngine} from '../engine/simd_engine';

/** A block of memory on loan. */
interface Loan {
  readonly offset: number;
  view(): Uint8Array;
  release(): void;
}

/** The part of the backend that lends memory. */
interface Lender {
  readonly engine: Pick<SimdEngine, 'shared' | 'maximumBytes'>;
  borrow(bytes: number, bank: number): Loan;
}

type Borrowed = Loan & {readonly bytes: number; values?: Uint16Array};

/** Two blocks in turn: one is filled while the other is read. */
const TURNS = 2;
/** The block for values that were read elsewhere. */
const COPIES = TURNS;

/** The part of a bank that a block may take. */
const LARGEST_SHARE = 1 / 256;

/** The weights of a bank that are filled at a time share one of these. */
export class Staging {
  private readonly blocks: Borrowed[] = [];
  private turn = 0;
  private users = 0;

  constructor(
    private readonly backend: Lender,
    private readonly bank: number,
  ) {}

  /** Counts another weight that uses this memory, until `close`. */
  open(): this {
    this.users++;
    return this;
  }

  close(): void {
    if (--this.users > 0) return;
    for (const block of this.blocks) block?.release();
    this.blocks.length = 0;
  }

  /**
   * Memory for `count` values, valid until the next call but one. Undefined where it would move, or where it is better
   * kept for weights.
   */
  space(count: number): Uint16Array | undefined {
    if (!this.backend.engine.shared || !this.hasRoom(count)) return undefined;
    this.turn = (this.turn + 1) % TURNS;
    const block = this.block(this.turn, 2 * count);
    const {buffer, byteOffset} = block.view();
    return (block.values = new Uint16Array(buffer, byteOffset, count));
  }

  /** Whether the bank can spare memory for this many values. */
  hasRoom(count: number): boolean {
    return 2 * count <= LARGEST_SHARE * this.backend.engine.maximumBytes;
  }

  /** The offset in the bank of values in memory from `space`, or of a copy. */
  offsetOf(values: Uint16Array): number {
    const found = this.blocks.find(block => block?.values === values);
    if (found) return found.offset;
    const block = this.block(COPIES, values.byteLength);
    block.view().set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return block.offset;
  }

  private block(index: number, bytes: number): Borrowed {
    const old = this.blocks[index];
    if (old && old.bytes >= bytes) return old;
    old?.release();
    return (this.blocks[index] = {...this.backend.borrow(bytes, this.bank), bytes});
  }
}
