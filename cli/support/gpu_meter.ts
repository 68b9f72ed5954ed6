/**
 * The cost of decoding on the backends `webgpu` and `cuda`: its share of the memory bandwidth, and the work per token.
 */
import type {Gemma3CausalLM} from 'tfjs-gemma3';
import {table} from './format';

/** The parts of the backend that are used here. */
interface Gpu {
  /** For WebGPU `dispatches` and `submissions`, for TensorFlow `operations`. */
  readonly counts: Readonly<Record<string, number>> & {readonly bytesRead: number};
  copySpeed(): Promise<number>;
}

export interface GpuResult {
  /** The device as `gemma3 doctor` describes it. */
  adapter: string;
  /** Bytes of weights that are read per token. */
  weightBytes: number;
  /** Bytes of weights read in a second, bytes that a plain copy reads and writes in a second, and their ratio. */
  bytesPerSecond: number;
  copyBytesPerSecond: number;
  shareOfCopy: number;
  dispatchesPerToken?: number;
  submissionsPerToken?: number;
  operationsPerToken?: number;
  bytesReadPerToken: number;
}

export interface GpuMeter {
  begins(): void;
  ends(): void;
  /** The figures of the last run. */
  result(tokens: number, secondsPerToken: number): Promise<GpuResult>;
}

/** Undefined on other backends. */
export async function startGpuMeter(backend: string, {backbone}: Gemma3CausalLM): Promise<GpuMeter | undefined> {
  if (backend !== 'webgpu' && backend !== 'cuda') return undefined;
  const {describeBackends, weights} = await import('tfjs-gemma3');
  const tf = await import('@tensorflow/tfjs');
  const gpu = tf.backend() as unknown as Gpu;
  const adapter = (await describeBackends()).find(({name}) => name === backend)!.details;
  const vision = new Set<object>(backbone.visionEncoder?.weights ?? []);
  const weightBytes = backbone.weights
    .filter(weight => !vision.has(weight))
    .map(weight =>
      weight instanceof weights.PackedWeight ? weight.bits.size : tf.util.sizeFromShape(weight.shape as number[]),
    )
    .reduce((sum, words) => sum + 4 * words, 0);
  let start = {...gpu.counts};
  let end = start;
  return {
    begins: () => void (start = {...gpu.counts}),
    ends: () => void (end = {...gpu.counts}),
    result: async (tokens, secondsPerToken) => {
      const bytesPerSecond = weightBytes / secondsPerToken;
      const copyBytesPerSecond = await gpu.copySpeed();
      const names = Object.keys(end);
      const each = names.map(name => [`${name}PerToken`, (end[name]! - start[name]!) / tokens]);
      return {
        adapter,
        weightBytes,
        bytesPerSecond,
        copyBytesPerSecond,
        shareOfCopy: bytesPerSecond / copyBytesPerSecond,
        ...(Object.fromEntries(each) as Pick<GpuResult, 'bytesReadPerToken'>),
      };
    },
  };
}

const size = (bytes: number) => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`);

export function gpuReport(gpu: GpuResult): string {
  const counts: [title: string, count: number | undefined, digits: number][] = [
    ['DISPATCHES/TOKEN', gpu.dispatchesPerToken, 1],
    ['SUBMISSIONS/TOKEN', gpu.submissionsPerToken, 2],
    ['OPERATIONS/TOKEN', gpu.operationsPerToken, 1],
    ['BYTES READ/TOKEN', gpu.bytesReadPerToken, 1],
  ];
  const known = counts.filter(([, count]) => count !== undefined);
  return `${gpu.adapter}\n${table([
    ['WEIGHTS/TOKEN', 'BANDWIDTH', 'PLAIN COPY', 'SHARE', ...known.map(([title]) => title)],
    [
      size(gpu.weightBytes),
      `${size(gpu.bytesPerSecond)}/s`,
      `${size(gpu.copyBytesPerSecond)}/s`,
      `${(100 * gpu.shareOfCopy).toFixed(1)} %`,
      ...known.map(([, count, digits]) => count!.toFixed(digits)),
    ],
  ])}`;
}
