/** Kernels for samplers. Sums are in double precision. */
import {type KernelFunc, type TensorInfo} from '@tensorflow/tfjs';
import {type PenalizedTokens} from '../../../ops/penalize';
import {draw, largestOf, logWeight, softmax, topIndices} from '../../../ops/row_numbers';
import {type KernelMap} from '../../kernel_map';
import {type MathBackendCPU, valuesOf} from '../cpu_backend';

/** The rows of x (rows, columns). */
function* rowsOf(backend: MathBackendCPU, x: TensorInfo): Generator<Float32Array> {
  const [rows, columns] = x.shape as [number, number];
  const values = valuesOf(backend, x) as Float32Array;
  for (let row = 0; row < rows; row++) yield values.subarray(row * columns, (row + 1) * columns);
}

/** See `ops/top_k.ts`. */
const topKKernel: KernelFunc = ({inputs, backend, attrs}) => {
  const cpu = backend as MathBackendCPU;
  const {x} = inputs as {x: TensorInfo};
  const {k} = attrs as unknown as {k: number};
  const y = new Float32Array(x.shape[0]! * 2 * k);
  let at = 0;
  for (const row of rowsOf(cpu, x)) {
    const best = topIndices(row, k);
    y.set(
      best.map(index => row[index]!),
      at,
    );
    y.set(best, at + k);
    if (Number.isNaN(largestOf(row))) y[at] = NaN;
    at += 2 * k;
  }
  return cpu.makeTensorInfo([x.shape[0]!, 2, k], 'float32', y);
};

/** See `ops/sampling.ts`. */
const softmaxSumsKernel: KernelFunc = ({inputs, backend, attrs}) => {
  const cpu = backend as MathBackendCPU;
  const {x} = inputs as {x: TensorInfo};
  const {temperature} = attrs as unknown as {temperature: number};
  const y: number[] = [];
  for (const row of rowsOf(cpu, x)) {
    const largest = largestOf(row);
    let sum = 0;
    for (const value of row) sum += Math.exp(logWeight(value, largest, temperature));
    y.push(largest, sum);
  }
  return cpu.makeTensorInfo([x.shape[0]!, 2], 'float32', Float32Array.from(y));
};

/** See `ops/sampling.ts`. */
const bestColumnKernel: KernelFunc = ({inputs, backend}) => {
  const cpu = backend as MathBackendCPU;
  const {x} = inputs as {x: TensorInfo};
  const best = Array.from(rowsOf(cpu, x), row => {
    const largest = largestOf(row);
    return largest > -Infinity ? row.indexOf(largest) : -1;
  });
  return cpu.makeTensorInfo([x.shape[0]!], 'int32', Int32Array.from(best));
};

/** See `ops/sampling.ts`. */
const drawKernel: KernelFunc = ({inputs, backend, attrs}) => {
  const cpu = backend as MathBackendCPU;
  const {x} = inputs as {x: TensorInfo};
  const {temperature, uniforms} = attrs as unknown as {temperature: number; uniforms: readonly number[]};
  const drawn = Array.from(rowsOf(cpu, x), (row, i) => draw(softmax(row, temperature), () => uniforms[i]!));
  return cpu.makeTensorInfo([x.shape[0]!], 'int32', Int32Array.from(drawn));
};

/** See `ops/penalize.ts`. */
const penalizeKernel: KernelFunc = ({inputs, backend, attrs}) => {
  const cpu = backend as MathBackendCPU;
  const {x} = inputs as {x: TensorInfo};
  const {rows, factor} = attrs as unknown as {rows: readonly PenalizedTokens[]; factor: number};
  const y = (valuesOf(cpu, x) as Float32Array).slice();
  rows.forEach(({tokens, losses}, row) => {
    tokens.forEach((token, i) => {
      const at = row * x.shape[1]! + token;
      y[at] = (y[at]! > 0 ? y[at]! / factor : y[at]! * factor) - losses[i]!;
    });
  });
  return cpu.makeTensorInfo(x.shape, 'float32', y);
};

export const samplingKernels: KernelMap = {
  Gemma3TopK: topKKernel,
  Gemma3SoftmaxSums: softmaxSumsKernel,
  Gemma3BestColumn: bestColumnKernel,
  Gemma3Draw: drawKernel,
  Gemma3Penalize: penalizeKernel,
};
