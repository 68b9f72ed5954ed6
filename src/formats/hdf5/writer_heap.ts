/** The global heap, where HDF5 stores strings of variable length, in one or more collections. */
import {aligned, FieldWriter} from './field_writer';

/** Bytes of the smallest collection that HDF5's library accepts. */
const MINIMUM = 4096;
const HEADER = 16;
const OBJECT_HEADER = 16;
/** Objects are numbered with 16 bits, and 0 is the free space. */
const MOST_OBJECTS = 65_535;

interface Collection {
  /** From the start of the heap. */
  readonly offset: number;
  size: number;
  used: number;
  readonly texts: Uint8Array[];
}

export class GlobalHeap {
  private readonly collections: Collection[] = [];

  /** @param address of the heap in the file. */
  constructor(private readonly address: number) {}

  get size(): number {
    const last = this.collections.at(-1);
    return last ? last.offset + last.size : 0;
  }

  /** Adds a string and returns a reference to it: its length, the address of its collection, and its number there. */
  add(text: string): Uint8Array {
    const bytes = new TextEncoder().encode(text);
    // An empty string is not stored.
    if (bytes.length === 0) return new FieldWriter().zeros(16).bytes;
    const wanted = OBJECT_HEADER + aligned(bytes.length);
    let last = this.collections.at(-1);
    if (!last || last.size - last.used < wanted || last.texts.length >= MOST_OBJECTS) {
      last = {offset: this.size, size: Math.max(MINIMUM, HEADER + wanted), used: HEADER, texts: []};
      this.collections.push(last);
    }
    last.texts.push(bytes);
    last.used += wanted;
    return new FieldWriter()
      .u32(bytes.length)
      .u64(this.address + last.offset)
      .u32(last.texts.length).bytes;
  }

  get bytes(): Uint8Array {
    const writer = new FieldWriter();
    for (const {size, used, texts} of this.collections) {
      writer.text('GCOL').u8(1, 0, 0, 0).u64(size);
      texts.forEach((text, i) =>
        writer
          .u16(i + 1)
          .u16(0)
          .u32(0)
          .u64(text.length)
          .raw(text)
          .pad(),
      );
      const free = size - used;
      // Free space is object 0, if its header fits.
      if (free >= OBJECT_HEADER) {
        writer
          .u32(0)
          .u32(0)
          .u64(free)
          .zeros(free - OBJECT_HEADER);
      } else {
        writer.zeros(free);
      }
    }
    return writer.bytes;
  }
}
