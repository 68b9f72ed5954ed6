/** Attributes of groups and datasets: reading one by name. */
import {bfloat16ToFloat32, float16ToFloat32} from '../../base/half';
import {type BlockReader} from './block_reader';
import {readBTree2} from './btree2';
import {type Cursor} from './cursor';
import {arrayBytes, type Datatype, type Hdf5Dtype, readDataspace, readDatatype} from './datatype';
import {damagedFile, unsupportedFeature} from './errors';
import {FractalHeap} from './fractal_heap';
import {MessageType, type ObjectHeader} from './object_header';

/**
 * Value of an attribute: a single value for a scalar, a flat list for an array. 64-bit integers are rounded to doubles.
 */
export type Hdf5AttributeValue = string | number | string[] | number[];

/** Reads the attribute `name` of an object; `subject` names the object in errors. */
export async function readAttribute(
  reader: BlockReader,
  header: ObjectHeader,
  name: string,
  subject: string,
): Promise<Hdf5AttributeValue | undefined> {
  for (const message of header.all(MessageType.Attribute, subject)) {
    const value = await readNamed(reader, message, name, subject);
    if (value !== undefined) return value;
  }
  const info = header.first(MessageType.AttributeInfo, subject);
  if (!info) return undefined;
  info.skip(1);
  if (info.u8() & 1) info.skip(2);
  const heap = info.address();
  if (heap === undefined) return undefined;
  // More than 8 attributes are in a heap, with an index of their names.
  const ids: Cursor[] = [];
  await readBTree2(reader, info.definedAddress('an index of names'), 8, record => ids.push(record));
  const objects = await FractalHeap.open(reader, heap, subject);
  for (const id of ids) {
    const value = await readNamed(reader, await objects.object(id), name, subject);
    if (value !== undefined) return value;
  }
  return undefined;
}

/** The value of the attribute in a message; undefined if it has another name. */
async function readNamed(
  reader: BlockReader,
  message: Cursor,
  name: string,
  subject: string,
): Promise<Hdf5AttributeValue | undefined> {
  const version = message.u8();
  if (version < 1 || version > 3) throw message.damaged('an attribute of version 1 to 3', `version ${version}`);
  const flags = message.u8();
  const [nameSize, typeSize, spaceSize] = [message.u16(), message.u16(), message.u16()];
  if (version === 3) message.skip(1);
  const padded = (size: number) => (version === 1 ? Math.ceil(size / 8) * 8 : size);
  if (message.text(padded(nameSize)) !== name) return undefined;
  const label = `attribute "${name}" of ${subject}`;
  // Version 1 has no flags; the byte is reserved.
  if (version > 1 && (flags & 3) !== 0) {
    throw unsupportedFeature(reader.file, label, 'its own type and shape', 'ones shared with other objects');
  }
  const type = readDatatype(message.part(padded(typeSize), `the type of ${message.what}`));
  const shape = readDataspace(message.part(padded(spaceSize), `the shape of ${message.what}`));
  if (!shape) throw unsupportedFeature(reader.file, label, 'a value', 'an empty attribute (a null dataspace)');
  const length = arrayBytes(message, shape, type.size);
  const values = await readValues(reader, message.part(length, `the value of ${message.what}`), type, label);
  const only = values[0];
  return shape.length === 0 && only !== undefined ? only : values;
}

async function readValues(
  reader: BlockReader,
  data: Cursor,
  type: Datatype,
  label: string,
): Promise<string[] | number[]> {
  if (type.kind === 'number') {
    const numbers: number[] = [];
    while (data.remaining > 0) numbers.push(readNumber(data.take(type.size), type.dtype));
    return numbers;
  }
  const texts: string[] = [];
  if (type.kind === 'string') {
    while (data.remaining > 0) {
      const text = data.text(type.size);
      texts.push(type.spacePadded ? text.replace(/ +$/, '') : text);
    }
    return texts;
  }
  if (type.kind === 'variable string') {
    while (data.remaining > 0) texts.push(await readHeapText(reader, data, label));
    return texts;
  }
  const received = type.kind === 'opaque' ? `opaque elements of ${type.size} bytes` : type.description;
  throw unsupportedFeature(reader.file, label, 'little-endian numbers or strings', received);
}

function readNumber(bytes: Uint8Array, dtype: Hdf5Dtype): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (dtype) {
    case 'int8':
      return view.getInt8(0);
    case 'int16':
      return view.getInt16(0, true);
    case 'int32':
      return view.getInt32(0, true);
    case 'int64':
      return Number(view.getBigInt64(0, true));
    case 'uint8':
      return view.getUint8(0);
    case 'uint16':
      return view.getUint16(0, true);
    case 'uint32':
      return view.getUint32(0, true);
    case 'uint64':
      return Number(view.getBigUint64(0, true));
    case 'float32':
      return view.getFloat32(0, true);
    case 'float64':
      return view.getFloat64(0, true);
    default: {
      const value = new Float32Array(1);
      const widen = dtype === 'float16' ? float16ToFloat32 : bfloat16ToFloat32;
      widen(Uint16Array.of(view.getUint16(0, true)), value);
      return value[0] ?? NaN;
    }
  }
}

/** Follows a reference (length, collection, index) into a global heap, where h5py stores all its strings. */
async function readHeapText(reader: BlockReader, reference: Cursor, label: string): Promise<string> {
  const length = reference.u32();
  const address = reference.address();
  const index = reference.u32();
  // An empty string may have no entry in a heap.
  if (length === 0) return '';
  if (address === undefined) throw reference.damaged('the address of a global heap', 'the undefined address');
  const start = await reader.read(address, 16, 'global heap');
  start.signature('GCOL');
  start.skip(4);
  const size = start.u64();
  if (size < 16) throw start.damaged('a heap of at least 16 bytes', `${size} bytes`);
  const heap = await reader.read(address + 16, size - 16, 'global heap');
  while (heap.remaining >= 16) {
    const found = heap.u16();
    heap.skip(6);
    const bytes = heap.u64();
    if (found === index && index !== 0) {
      if (length > bytes) throw heap.damaged(`a text of ${length} bytes`, `${bytes} bytes`);
      return heap.text(length);
    }
    // Object 0 is the free space, which ends the heap.
    if (found === 0) break;
    heap.skip(Math.ceil(bytes / 8) * 8);
  }
  throw damagedFile(reader.file, `the text of the ${label} in ${start.what}`, `no object ${index}`);
}
