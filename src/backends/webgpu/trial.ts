/**
 * Tries variants of programs on the device: one that needs an optional feature is used only where it computes what the
 * plain one does, and faster.
 */
import {type Matrix, multiply} from './kernels/products';
import {type WebGpuBackend} from './webgpu_backend';
import {blocksOf, groupBytes} from './wgsl/weights';

/** The matrix that is tried, and how often it is multiplied at a time; the best of some rounds counts. */
const ROWS = 1024;
const COLUMNS = 1024;
const EFFORT = {times: 32, rounds: 3};
/** Sums in another order differ by rounding only. */
const TOLERANCE = 1e-5;

/** Sizes of subgroups, which `GPUAdapterInfo` of older browsers lacks. */
interface SubgroupSizes {
  readonly subgroupMinSize?: number;
}

/** Lanes of the smallest subgroup that the device may form; 0 without subgroups. */
export function lanesOf({features}: GPUDevice, info: SubgroupSizes | undefined): number {
  const least = features.has('subgroups' as GPUFeatureName) ? (info?.subgroupMinSize ?? 0) : 0;
  return least >= 4 ? Math.min(64, 2 ** Math.floor(Math.log2(least))) : 0;
}

/** Chooses whether products of single tokens use so many lanes. */
export async function tryLanes(backend: WebGpuBackend, lanes: number, {times, rounds} = EFFORT): Promise<void> {
  if (lanes === 0) return;
  const words = (ROWS / 8) * (groupBytes('int4', COLUMNS) / 4);
  // Scales and minima are bfloat16 numbers near 1, and all other words are numbers of four bits.
  const perBlock = words / ((ROWS / 8) * blocksOf(COLUMNS));
  const bits = Int32Array.from({length: words}, (_, i) =>
    i % perBlock < 8 ? 0x3c003c00 + ((i * 37) % 64) * 0x10001 : (i * 0x9e3779b1) | 0,
  );
  const x = backend.makeTensorInfo(
    [1, COLUMNS],
    'float32',
    Float32Array.from({length: COLUMNS}, (_, i) => Math.sin(i)),
  );
  const tensor = backend.makeTensorInfo([words], 'int32', bits);
  const matrix: Matrix = {tensor, format: 'int4', rows: ROWS, columns: COLUMNS, inner: 1};
  const run = (count: number) => {
    for (let i = 1; i < count; i++) backend.disposeData(multiply(backend, x, matrix).dataId);
    return multiply(backend, x, matrix);
  };
  const seconds = async () => {
    let best = Infinity;
    for (let round = 0; round < rounds; round++) {
      const start = performance.now();
      backend.disposeData(run(times).dataId);
      backend.flush();
      await backend.arrived(backend.queue.onSubmittedWorkDone());
      best = Math.min(best, performance.now() - start);
    }
    return best;
  };
  const measure = async (own: number) => {
    backend.lanes = own;
    const y = run(1);
    const values = (await backend.read(y.dataId)) as Float32Array;
    backend.disposeData(y.dataId);
    return {values, time: await seconds()};
  };
  try {
    const plain = await measure(0);
    const tried = await measure(lanes);
    const largest = plain.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const right = tried.values.every((value, i) => Math.abs(value - plain.values[i]!) <= TOLERANCE * largest);
    backend.lanes = right && tried.time < plain.time ? lanes : 0;
  } finally {
    for (const {dataId} of [x, matrix.tensor]) backend.disposeData(dataId);
  }
}
