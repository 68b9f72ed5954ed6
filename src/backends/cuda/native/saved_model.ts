/**
 * Graphs of TensorFlow, in the one form that tfjs' binding reads: a SavedModel. Unlike single operations they may have
 * attributes that are lists, which fused operations need, and results are written over inputs that nothing else reads.
 */
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {FLOAT, INT32} from '../attributes';
import {type Binding} from './binding';

/** Plain numbers are types. An array of a single number is a constant without axes. */
export type NodeAttribute =
  number | boolean | string | {int: number} | {float: number} | readonly string[] | Float32Array | Int32Array;

/** An operation: its name, its operation, the names of its inputs. */
export type GraphNode = readonly [
  name: string,
  operation: string,
  inputs: readonly string[],
  attributes: Readonly<Record<string, NodeAttribute>>,
];

type Bytes = readonly number[];

// The wire format of protocol buffers. All whole numbers here are small and positive.
const varint = (value: number): Bytes => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >> 7)]);
const number = (field: number, value: number): Bytes => [field << 3, ...varint(value)];
const bytes = (field: number, value: Bytes): Bytes => [(field << 3) | 2, ...varint(value.length), ...value];
const text = (field: number, value: string): Bytes => bytes(field, [...Buffer.from(value)]);
const bitsOf = ({buffer, byteOffset, byteLength}: Float32Array | Int32Array): Bytes => [
  ...new Uint8Array(buffer, byteOffset, byteLength),
];

/** tensorflow.TensorProto, of a single number. */
const tensorOf = (value: Float32Array | Int32Array): Bytes => [
  ...number(1, value instanceof Float32Array ? FLOAT : INT32),
  ...bytes(2, []),
  ...bytes(4, bitsOf(value)),
];

/** tensorflow.AttrValue */
function attributeOf(value: NodeAttribute): Bytes {
  if (typeof value === 'number') return number(6, value);
  if (typeof value === 'boolean') return number(5, Number(value));
  if (typeof value === 'string') return text(2, value);
  if (value instanceof Float32Array || value instanceof Int32Array) return bytes(8, tensorOf(value));
  if ('int' in value) return number(3, value.int);
  if ('float' in value) return [(4 << 3) | 5, ...bitsOf(Float32Array.of(value.float))];
  return bytes(
    1,
    value.flatMap(item => text(2, item)),
  );
}

/** tensorflow.NodeDef */
const nodeOf = ([name, operation, inputs, attributes]: GraphNode): Bytes => [
  ...text(1, name),
  ...text(2, operation),
  ...inputs.flatMap(input => text(3, input)),
  ...Object.entries(attributes).flatMap(([key, value]) => bytes(5, [...text(1, key), ...bytes(2, attributeOf(value))])),
];

const TAG = 'serve';

/** tensorflow.SavedModel, of one graph. */
export const savedModel = (nodes: readonly GraphNode[]): Uint8Array =>
  Uint8Array.from([
    ...number(1, 1),
    ...bytes(2, [
      ...bytes(1, text(4, TAG)),
      ...bytes(
        2,
        nodes.flatMap(node => bytes(1, nodeOf(node))),
      ),
    ]),
  ]);

/** Loads a graph, whose files are only needed meanwhile. Returns its handle. */
export function loadGraph(binding: Binding, nodes: readonly GraphNode[]): number {
  const folder = mkdtempSync(join(tmpdir(), 'gemma3-graph-'));
  try {
    writeFileSync(join(folder, 'saved_model.pb'), savedModel(nodes));
    return binding.loadSavedModel(folder, TAG);
  } finally {
    rmSync(folder, {recursive: true, force: true});
  }
}
