/** The global heap, where HDF5 keeps texts of any length: one or more collections of them. */
import {aligned, ByteWriter} from './byte_writer';

/** Smaller collections are refused by HDF5's library. */
const MINIMUM = 4096;
const HEADER = 16;
const OBJECT_HEADER = 16;
/** Numbers of objects have 16 bits, and 0 is the free space. */
const MOST_OBJECTS = 65_535;

interface Collection {
  /** From the beginning of the heap. */
  readonly offset: number;
  size: number;
  used: number;
  readonly texts: Uint8Array[];
}

export class GlobalHeap {
  private readonly collections: Collection[] = [];

  /** @param address where the heap will lie. */
  constructor(private readonly address: number) {}

  get size(): number {
    const last = this.collections.at(-1);
    return last ? last.offset + last.size : 0;
  }

  /** Puts a text into the heap. What is returned leads to it: its length, its collection, its number there. */
  add(text: string): Uint8Array {
    const bytes = new TextEncoder().encode(text);
    // An empty text has no place in a heap.
    if (bytes.length === 0) return new ByteWriter().zeros(16).bytes;
    const wanted = OBJECT_HEADER + aligned(bytes.length);
    let last = this.collections.at(-1);
    if (!last || last.size - last.used < wanted || last.texts.length >= MOST_OBJECTS) {
      last = {offset: this.size, size: Math.max(MINIMUM, HEADER + wanted), used: HEADER, texts: []};
      this.collections.push(last);
    }
    last.texts.push(bytes);
    last.used += wanted;
    return new ByteWriter()
      .u32(bytes.length)
      .u64(this.address + last.offset)
      .u32(last.texts.length).bytes;
  }

  get bytes(): Uint8Array {
    const writer = new ByteWriter();
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
      // What is left is object 0, if there is room to say so.
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
