/** TensorFlow's numbers of types, and the attributes of its operations. */

export const FLOAT = 1;
export const INT32 = 3;
export const UINT8 = 4;
export const INT8 = 6;
export const BFLOAT16 = 14;

/** Attributes of an operation: `{T: FLOAT, transpose_a: false}`. Plain numbers are types. */
export type ShortAttributes = Readonly<Record<string, number | boolean | string | {int: number} | {float: number}>>;

/** Attributes that depend on two flags, or on a type. */
const byFlags = (make: (a: boolean, b: boolean) => ShortAttributes) =>
  [false, true].map(a => [false, true].map(b => make(a, b)));
const byType = (make: (type: number) => ShortAttributes) =>
  new Map([FLOAT, INT32, BFLOAT16, UINT8, INT8].map(type => [type, make(type)]));

export const T: ShortAttributes = {T: FLOAT};
export const MAT_MUL = byFlags((a, b) => ({T: FLOAT, transpose_a: a, transpose_b: b}));
export const BATCH_MAT_MUL = byFlags((a, b) => ({T: FLOAT, adj_x: a, adj_y: b}));
export const RESHAPE = byType(T => ({T, Tshape: INT32}));
export const TRANSPOSE = byType(T => ({T, Tperm: INT32}));
export const REDUCE: ShortAttributes = {T: FLOAT, Tidx: INT32, keep_dims: false};
export const KEEP: ShortAttributes = {...REDUCE, keep_dims: true};
export const SLICE = byType(T => ({T, Index: INT32}));
export const GATHER = byType(Tparams => ({Tparams, Tindices: INT32, Taxis: INT32}));
export const WIDEN = byType(SrcT => ({SrcT, DstT: FLOAT, Truncate: false}));
export const ROLL: ShortAttributes = {T: FLOAT, Tshift: INT32, Taxis: INT32};
export const SPLIT: ShortAttributes = {T: FLOAT, Tlen: INT32};
export const ARG_MAX: ShortAttributes = {T: FLOAT, Tidx: INT32, output_type: INT32};
export const CONCAT = byType(T => ({N: {int: 2}, T, Tidx: INT32}));

const concats = new Map<number, ShortAttributes>();
export function concatAttributes(count: number): ShortAttributes {
  let known = concats.get(count);
  if (!known) concats.set(count, (known = {N: {int: count}, T: FLOAT, Tidx: INT32}));
  return known;
}
