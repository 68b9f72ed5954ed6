/** The values of a quantized tensor, in pieces. */
import {float32ToBfloat16} from '../../base/half';
import {type Dequantize, type GgufTensor, integerType, type IntegerType} from '../../formats/gguf';
import {INTEGER_BLOCK, type IntegerBlocks, type IntegerStream} from '../../weights/integer_stream';
import {type ValueStream} from '../../weights/value_stream';
import {type Scratch} from '../stored_array';

/** Reads whole blocks and extracts the values. */
export class QuantizedStream implements ValueStream {
  private ends = new Float32Array(0);

  constructor(
    private readonly tensor: GgufTensor,
    private readonly dequantize: Dequantize,
    private readonly scratch: Scratch,
    private readonly onRead: (bytes: number) => void = () => {},
  ) {}

  get shape(): readonly number[] {
    return this.tensor.shape;
  }

  async readFloat32(start: number, out: Float32Array): Promise<void> {
    const {blockSize, blockBytes} = this.tensor.type;
    const first = Math.floor(start / blockSize);
    const count = Math.ceil((start + out.length) / blockSize) - first;
    const bytes = this.scratch.bytes(count * blockBytes);
    await this.tensor.source.readInto(this.tensor.offset + first * blockBytes, bytes);
    this.onRead(bytes.length);
    if (count * blockSize === out.length) {
      this.dequantize(bytes, count, out);
      return;
    }
    // A piece that begins or ends inside a block.
    if (this.ends.length < count * blockSize) this.ends = new Float32Array(count * blockSize);
    this.dequantize(bytes, count, this.ends);
    const from = start - first * blockSize;
    out.set(this.ends.subarray(from, from + out.length));
  }

  get integers(): IntegerStream | undefined {
    const type = integerType(this.tensor.type.name);
    return type && new TensorIntegers(this.tensor, type, this.scratch, this.onRead);
  }

  readonly readsAhead = true;

  async readBfloat16(start: number, count: number): Promise<Uint16Array> {
    const floats = this.scratch.floats(count);
    const halves = this.scratch.halves(count);
    await this.readFloat32(start, floats);
    float32ToBfloat16(floats, halves);
    return halves;
  }
}

/** The integers and scales of the same tensor. */
class TensorIntegers implements IntegerStream {
  readonly least: number;
  readonly largest: number;
  private blocks: IntegerBlocks = {integers: new Int8Array(0), scales: new Float32Array(0)};

  constructor(
    private readonly tensor: GgufTensor,
    private readonly type: IntegerType,
    private readonly scratch: Scratch,
    private readonly onRead: (bytes: number) => void,
  ) {
    this.least = type.least;
    this.largest = type.largest;
  }

  async readIntegers(start: number, count: number): Promise<IntegerBlocks> {
    const {source, offset, type} = this.tensor;
    const blocks = count / INTEGER_BLOCK;
    const bytes = this.scratch.bytes(blocks * type.blockBytes);
    await source.readInto(offset + (start / INTEGER_BLOCK) * type.blockBytes, bytes);
    this.onRead(bytes.length);
    if (this.blocks.scales.length !== blocks) {
      this.blocks = {integers: new Int8Array(count), scales: new Float32Array(blocks)};
    }
    this.type.read(bytes, blocks, this.blocks.integers, this.blocks.scales);
    return this.blocks;
  }
}
