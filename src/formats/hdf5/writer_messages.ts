/** Object headers of version 1 with the messages that h5py writes for groups, datasets and attributes. */
import {aligned, FieldWriter} from './field_writer';
import {type Hdf5Dtype} from './datatype';
import {MessageType} from './object_header';
import {type GlobalHeap} from './writer_heap';

/**
 * Strings are stored with variable length, integers as int64, other numbers as float64, bytes as fixed-length strings.
 */
export type AttributeValue = string | number | Uint8Array;
export type Attributes = Readonly<Record<string, AttributeValue>>;

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly body: Uint8Array;
}

/** Flag of messages that must not change while the object exists. */
const CONSTANT = 1;
const FILL_VALUE = 0x05;

/** An object header with these messages, in one block. */
export function objectHeader(messages: readonly Message[]): Uint8Array {
  const body = new FieldWriter();
  for (const {type, flags, body: content} of messages) {
    body.u16(type).u16(aligned(content.length)).u8(flags, 0, 0, 0).raw(content).pad();
  }
  return new FieldWriter().u8(1, 0).u16(messages.length).u32(1).u32(body.length).pad().raw(body.bytes).bytes;
}

/** Points to the names and links of a group. */
export function symbolTableMessage(tree: number, heap: number): Message {
  return {type: MessageType.SymbolTable, flags: 0, body: new FieldWriter().u64(tree).u64(heap).bytes};
}

/** The four messages of every dataset; `address` is undefined for a dataset without bytes. */
export function datasetMessages(
  shape: readonly number[],
  dtype: Hdf5Dtype,
  address: number | undefined,
  byteLength: number,
): Message[] {
  return [
    {type: MessageType.Dataspace, flags: 0, body: dataspace(shape)},
    {type: MessageType.Datatype, flags: CONSTANT, body: datatype(dtype)},
    // Version 2, late allocation, written if set, with the default fill value.
    {type: FILL_VALUE, flags: CONSTANT, body: new FieldWriter().u8(2, 2, 2, 1).u32(0).bytes},
    // Version 3, contiguous.
    {type: MessageType.Layout, flags: 0, body: new FieldWriter().u8(3, 1).address(address).u64(byteLength).bytes},
  ];
}

/** Attribute messages; strings are added to the global heap. */
export function attributeMessages(attributes: Attributes, heap: GlobalHeap): Message[] {
  return Object.entries(attributes).map(([name, value]) => {
    const {type, data} = attributeValue(value, heap);
    const title = new FieldWriter().text(name).u8(0).bytes;
    const space = dataspace([]);
    const body = new FieldWriter().u8(1, 0).u16(title.length).u16(type.length).u16(space.length);
    for (const part of [title, type, space]) body.raw(part).pad();
    return {type: MessageType.Attribute, flags: 0, body: body.raw(data).bytes};
  });
}

function attributeValue(value: AttributeValue, heap: GlobalHeap): {type: Uint8Array; data: Uint8Array} {
  if (typeof value === 'string') {
    // A string of variable length, in UTF-8, with bytes as its base type.
    const type = new FieldWriter().u8(0x19, 1, 1, 0).u32(16).raw(integer(1, false)).bytes;
    return {type, data: heap.add(value)};
  }
  if (typeof value === 'number') {
    const whole = Number.isSafeInteger(value);
    const data = new FieldWriter();
    return {type: datatype(whole ? 'int64' : 'float64'), data: (whole ? data.i64(value) : data.f64(value)).bytes};
  }
  // A string of fixed length, padded with NUL.
  return {type: new FieldWriter().u8(0x13, 1, 0, 0).u32(value.length).bytes, data: value};
}

/** Version 1, with the current size as the maximum size. */
function dataspace(shape: readonly number[]): Uint8Array {
  const writer = new FieldWriter().u8(1, shape.length, shape.length ? 1 : 0).zeros(5);
  for (const size of [...shape, ...shape]) writer.u64(size);
  return writer.bytes;
}

const integer = (size: number, signed: boolean) =>
  new FieldWriter()
    .u8(0x10, signed ? 8 : 0, 0, 0)
    .u32(size)
    .u16(0)
    .u16(8 * size).bytes;

/** [bytes, exponent bits, mantissa bits, exponent bias] */
const FLOATS: Partial<Record<Hdf5Dtype, [number, number, number, number]>> = {
  float16: [2, 5, 10, 15],
  float32: [4, 8, 23, 127],
  float64: [8, 11, 52, 1023],
};

/** The datatype message. bfloat16 is opaque, as in Keras' files, where an attribute marks it. */
function datatype(dtype: Hdf5Dtype): Uint8Array {
  if (dtype === 'bfloat16') return new FieldWriter().u8(0x15, 0, 0, 0).u32(2).bytes;
  const float = FLOATS[dtype];
  if (!float) return integer(itemSize(dtype), !dtype.startsWith('u'));
  const [size, exponent, mantissa, bias] = float;
  return new FieldWriter()
    .u8(0x11, 0x20, 8 * size - 1, 0)
    .u32(size)
    .u16(0)
    .u16(8 * size)
    .u8(mantissa, exponent, 0, mantissa)
    .u32(bias).bytes;
}

/** Bytes of one element. */
export const itemSize = (dtype: Hdf5Dtype): number => Number(/\d+$/.exec(dtype)![0]) / 8;
