/** What samplers need: see `ops/top_k.ts` and `ops/sampling.ts`. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {softmaxScale} from '../../../ops/sampling';
import {type KernelMap} from '../../kernel_map';
import {type Runner} from '../webgpu_backend';
import {best} from '../wgsl/best';
import {draw, softmaxShare, softmaxSums} from '../wgsl/softmax';
import {TOP_K_PIECE, topKCandidates, topKPick} from '../wgsl/top_k';
import {kernel} from './kernel';

/** The k largest values of the last axis, into one tensor or two: see `topKPick`. */
export function runTopK(backend: Runner, x: TensorInfo, k: number, results: TensorInfo[]): void {
  const columns = x.shape.at(-1)!;
  const rows = sizeOf(x.shape.slice(0, -1));
  const pieces = Math.ceil(columns / TOP_K_PIECE);
  const kept = Math.min(k, TOP_K_PIECE, columns);
  const numbers = {rows, columns, pieces, kept, k};
  const candidates = backend.empty([rows, pieces, 2, kept], 'int32');
  backend.run(topKCandidates, {tensors: [x, candidates], numbers, groups: rows * pieces});
  backend.run(topKPick(results.length > 1), {tensors: [x, candidates, ...results], numbers, groups: rows});
  backend.disposeData(candidates.dataId);
}

const topKKernel = kernel<'x', {k: number}>((backend, {x}, {k}) => {
  const y = backend.empty([x.shape[0]!, 2, k]);
  if (sizeOf(y.shape) > 0) runTopK(backend, x, k, [y]);
  return y;
});

const bestColumnKernel = kernel<'x'>((backend, {x}) => {
  const [results, count] = x.shape as [number, number];
  const y = backend.empty([results], 'int32');
  const program = best({type: 'float32', least: false, strict: true});
  backend.run(program, {tensors: [x, y], numbers: {results, count, inner: 1}, groups: results});
  return y;
});

export function softmaxNumbers(x: TensorInfo, temperature: number) {
  const [rows, columns] = x.shape as [number, number];
  const scale = softmaxScale(temperature);
  return {rows, columns, share: softmaxShare(columns), scale, temperature: temperature * scale};
}

const softmaxSumsKernel = kernel<'x', {temperature: number}>((backend, {x}, {temperature}) => {
  const y = backend.empty([x.shape[0]!, 2]);
  const numbers = softmaxNumbers(x, temperature);
  backend.run(softmaxSums, {tensors: [x, y], numbers, groups: numbers.rows});
  return y;
});

const drawKernel = kernel<'x', {temperature: number; uniforms: readonly number[]}>((backend, {x}, attrs) => {
  const y = backend.empty([x.shape[0]!], 'int32');
  const numbers = softmaxNumbers(x, attrs.temperature);
  const uniforms = backend.makeTensorInfo([numbers.rows], 'float32', Float32Array.from(attrs.uniforms));
  backend.run(draw, {tensors: [x, uniforms, y], numbers, groups: numbers.rows});
  backend.disposeData(uniforms.dataId);
  return y;
});

export const samplingKernels: KernelMap = {
  Gemma3TopK: topKKernel,
  Gemma3BestColumn: bestColumnKernel,
  Gemma3SoftmaxSums: softmaxSumsKernel,
  Gemma3Draw: drawKernel,
};
