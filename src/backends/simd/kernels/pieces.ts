/** Common to kernels that run a layer in pieces of its rows, with a workspace for only one piece. */
import {type DenseForm} from '../../../ops/dense_form';
import {type Command, FLOAT32, groupBytes, ROW_GROUP} from '../engine/command';
import {TYPES} from '../packing/packing';
import {combine} from './arithmetic';
import {matMul} from './mat_mul';

/**
 * Cuts rows into pieces of similar size: with integer weights, products of fewer than four rows are rounded
 * differently.
 *
 * @returns first row and number of rows of each piece.
 */
export function* evenPieces(rows: number, most: number): Generator<[first: number, count: number]> {
  const size = pieceSize(rows, most);
  for (let first = 0; first < rows; first += size) yield [first, Math.min(size, rows - first)];
}

/** Rows of the largest piece. */
export function pieceSize(rows: number, most: number): number {
  return rows === 0 ? 0 : Math.ceil(rows / Math.ceil(rows / most));
}

/** A dense layer in memory: its kernel (outputs, inputs), and a bias of that many outputs or 0. */
export interface DenseAt {
  w: number;
  bias: number;
  form: DenseForm;
  outputs: number;
  inputs: number;
}

/**
 * Some outputs of a dense layer. The number of the first is a multiple of eight if the kernel is packed, and the kernel
 * has a single block of outputs if it is not.
 */
export function someOutputs(dense: DenseAt, first: number, count: number): DenseAt {
  const {w, bias, form, inputs} = dense;
  const offset = form.packing ? (first / ROW_GROUP) * groupBytes(TYPES[form.packing.format], inputs) : 4 * first;
  return {...dense, w: w + offset, bias: bias && bias + 4 * first, outputs: count};
}

/** y (m, outputs) = x (m, inputs) · Wᵀ + bias */
export function* denseCommands({w, bias, form, outputs, inputs}: DenseAt, x: number, m: number, y: number) {
  const {packing, inner} = form;
  const type = packing ? TYPES[packing.format] : FLOAT32;
  yield matMul({type, w, inner, x, m, y, rows: outputs, columns: inputs}) satisfies Command;
  if (bias) yield combine('Add', {x: y, b: bias, y, count: m * outputs, period: outputs}) satisfies Command;
}
