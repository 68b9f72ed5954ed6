/** HDF5 fixtures: what h5py reads from them, and helpers that damage them. */
import {type ByteSource, MemorySource} from '../../src/base/byte_source';
import {Hdf5File} from '../../src/formats/hdf5';
import {fixtureBytes, fixtureJson} from './fixtures';

/** A dataset as h5py reads it. */
export interface Expected {
  readonly shape: number[];
  readonly dtype: string;
  readonly hex: string;
  readonly values?: number[];
  /** Part of the error for a dataset that cannot be read. The other fields are then missing. */
  readonly unreadable?: string;
}

export const EXPECTED = fixtureJson<Record<string, Record<string, Expected>>>('hdf5/expected.json');

/** The bytes of a fixture, copied so that a test may change them. */
export function hdf5Bytes(name: string): Uint8Array {
  return fixtureBytes(`hdf5/${name}`);
}

/** Opens a fixture, or other bytes under its name. */
export function open(name: string, bytes: Uint8Array = hdf5Bytes(name)): Promise<Hdf5File> {
  return Hdf5File.open(new MemorySource(name, bytes));
}

/** The message with which a promise is rejected. */
export async function rejection(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error.message;
    throw error;
  }
  throw new Error('Expected a rejection. Received: a value.');
}

/** A copy with `bytes` at `offset`. */
export function patched(original: Uint8Array, offset: number, ...bytes: number[]): Uint8Array {
  const copy = original.slice();
  copy.set(bytes, offset);
  return copy;
}

/** Offset of an ASCII text. */
export function find(bytes: Uint8Array, text: string, from = 0): number {
  const at = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).indexOf(text, from, 'latin1');
  if (at < 0) throw new Error(`Expected "${text}" in the fixture. Received: no such bytes.`);
  return at;
}

/** A source that answers later, and records its reads. */
export class SlowSource implements ByteSource {
  readonly name = 'slow.h5';
  readonly reads: [offset: number, length: number][] = [];
  closed = 0;
  /** Reads in progress, and their largest number so far. */
  busy = 0;
  mostBusy = 0;

  constructor(private readonly bytes: Uint8Array) {}
  get size(): number {
    return this.bytes.length;
  }
  async readInto(offset: number, target: Uint8Array): Promise<void> {
    this.reads.push([offset, target.length]);
    this.mostBusy = Math.max(this.mostBusy, ++this.busy);
    await new Promise(resolve => setTimeout(resolve, 1));
    this.busy--;
    if (offset + target.length > this.bytes.length) throw new Error(`Read beyond the end of "${this.name}".`);
    target.set(this.bytes.subarray(offset, offset + target.length));
  }
  async close(): Promise<void> {
    this.closed++;
  }
}
