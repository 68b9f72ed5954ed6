/** An engine with memory for tests. Every array lies between guards of NaNs, which reveal accesses out of bounds. */
import {type Command, INT4, INT8, type NumberType} from '../../src/backends/simd/engine/command';
import {SimdEngine, type SimdEngineOptions} from '../../src/backends/simd/engine/simd_engine';

const GUARD = 64;

export interface SimdMemoryOptions extends SimdEngineOptions {
  shared?: boolean;
  /** Address of the first tensor. */
  begin?: number;
}

/**
 * Kernels are tested with each of these settings. They cover both instruction sets, both tile shapes, both
 * ways to read weights, 1, 2 and 4 threads, unshared memory, and addresses above 2 GiB.
 */
export const settings: SimdMemoryOptions[] = [
  {relaxed: true, wide: false, threads: 1, shared: false},
  {relaxed: false, wide: true, threads: 1, shared: false, begin: 0x8000_0004},
  {relaxed: true, wide: true, readAhead: false, threads: 2, begin: 0x8000_0004},
  {relaxed: false, wide: false, readAhead: false, threads: 2},
  {relaxed: true, wide: false, threads: 4},
  {relaxed: true, wide: true, threads: 4},
  {relaxed: false, wide: false, threads: 4},
];

/** Allowed error of a product, relative to its largest value. With integer weights x is rounded to 16 bits. */
export function productTolerance(type: NumberType): number {
  return type === INT8 || type === INT4 ? 3e-5 : 2e-6;
}

export class SimdMemory {
  private end: number;
  private guards: number[] = [];

  private constructor(
    readonly engine: SimdEngine,
    private readonly begin: number,
  ) {
    this.end = begin;
  }

  static async create({shared = true, begin = 0, ...options}: SimdMemoryOptions): Promise<SimdMemory> {
    const memory = new WebAssembly.Memory({initial: 1, maximum: 65535, shared});
    const engine = await SimdEngine.create({memory, ...options});
    return new SimdMemory(engine, Math.max(begin, engine.staticBytes));
  }

  /** Allocates bytes at an address that is aligned only to 4 bytes. */
  place(bytes: number): number {
    this.guard();
    const at = this.end;
    this.end += Math.ceil(bytes / 4) * 4;
    this.guard();
    this.end += 4;
    return at;
  }

  private guard(): void {
    const memory = this.engine.memory;
    const missing = this.end + GUARD + 8 - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / 65536) + 16);
    new Float32Array(memory.buffer, this.end, GUARD / 4).fill(NaN);
    this.guards.push(this.end);
    this.end += GUARD;
  }

  floats(values: ArrayLike<number>): number {
    const at = this.place(values.length * 4);
    new Float32Array(this.engine.memory.buffer, at, values.length).set(values);
    return at;
  }

  ints(values: ArrayLike<number>): number {
    const at = this.place(values.length * 4);
    new Int32Array(this.engine.memory.buffer, at, values.length).set(values);
    return at;
  }

  halves(values: ArrayLike<number>): number {
    const at = this.place(values.length * 2);
    new Uint16Array(this.engine.memory.buffer, at, values.length).set(values);
    return at;
  }

  /** Allocates memory for a result, filled with NaNs. */
  output(count: number): number {
    return this.floats(new Float32Array(count).fill(NaN));
  }

  result(at: number, count: number): Float32Array {
    return new Float32Array(this.engine.memory.buffer, at, count).slice();
  }

  run(command: Command): void {
    this.engine.run(...command);
    for (const at of this.guards) {
      const guard = new Float32Array(this.engine.memory.buffer, at, GUARD / 4);
      if (!guard.every(Number.isNaN)) throw new Error(`Command ${command[0]} wrote out of bounds, at ${at}.`);
    }
  }

  /** Releases everything that was allocated. */
  clear(): void {
    this.end = this.begin;
    this.guards = [];
  }
}

/** Reproducible numbers from −1 to 1. */
export function random(count: number, seed: number): Float32Array {
  let state = (seed * 2654435761) >>> 0 || 1;
  return Float32Array.from({length: count}, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state | 0) / 2 ** 31;
  });
}

export function toBfloat16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(bits, b => (b + 0x7fff + ((b >>> 16) & 1)) >>> 16);
}

export function fromBfloat16(bits: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(bits, b => b << 16).buffer);
}
