/** Writes consecutive little-endian fields. */

const utf8 = new TextEncoder();

/** A buffer that grows as fields are appended. */
export class ByteWriter {
  private buffer = new Uint8Array(256);
  private view = new DataView(this.buffer.buffer);
  /** Bytes written so far. */
  length = 0;

  /** The bytes written so far, not copied. */
  get bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }

  /** Reserves bytes and returns their position. May replace `view`. */
  private place(count: number): number {
    const start = this.length;
    this.length += count;
    if (this.length > this.buffer.length) {
      const larger = new Uint8Array(Math.max(this.length, 2 * this.buffer.length));
      larger.set(this.buffer);
      this.buffer = larger;
      this.view = new DataView(larger.buffer);
    }
    return start;
  }

  u8(...values: number[]): this {
    return this.raw(values);
  }
  u16(value: number): this {
    const at = this.place(2);
    this.view.setUint16(at, value, true);
    return this;
  }
  u32(value: number): this {
    const at = this.place(4);
    this.view.setUint32(at, value, true);
    return this;
  }
  /** A length or count of 8 bytes, below 2^53. */
  u64(value: number): this {
    return this.u32(value % 2 ** 32).u32(Math.floor(value / 2 ** 32));
  }
  i64(value: number): this {
    const at = this.place(8);
    this.view.setBigInt64(at, BigInt(value), true);
    return this;
  }
  f32(value: number): this {
    const at = this.place(4);
    this.view.setFloat32(at, value, true);
    return this;
  }
  f64(value: number): this {
    const at = this.place(8);
    this.view.setFloat64(at, value, true);
    return this;
  }

  raw(bytes: ArrayLike<number>): this {
    const start = this.place(bytes.length);
    this.buffer.set(bytes, start);
    return this;
  }
  /** UTF-8, without a terminator. */
  text(text: string): this {
    return this.raw(utf8.encode(text));
  }
  zeros(count: number): this {
    // Bytes that were never written are zero.
    this.place(count);
    return this;
  }
}
