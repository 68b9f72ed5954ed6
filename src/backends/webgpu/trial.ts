/**
 * Tries variants of programs on the device: one that needs an optional feature is used only if its results equal the
 * plain one's and it is faster.
 */
import {type Matrix, multiply} from './kernels/products';
import {type WebGpuBackend} from './webgpu_backend';
import {CODE_FORMATS, type CodeTile} from './wgsl/code_tile';
import {blocksOf, groupBytes} from './wgsl/weights';

/** How often products are computed at a time; the best of several rounds counts. */
interface Effort {
  readonly times: number;
  readonly rounds: number;
}

/** A product to try: rows of x, and the matrix. */
interface Sizes {
  readonly count: number;
  readonly rows: number;
  readonly columns: number;
}

const TOKEN: Sizes & Effort = {count: 1, rows: 1024, columns: 1024, times: 32, rounds: 3};
const PROMPT: Sizes & Effort = {count: 256, rows: 2048, columns: 512, times: 2, rounds: 3};
/** Sums in a different order differ only by rounding. */
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

/** Variants of products of many rows that the device can compute. @param packedDots whether WGSL has these */
export const codeTilesOf = ({features}: GPUDevice, packedDots: boolean): CodeTile[] => [
  ...(features.has('shader-f16') ? (['f16'] as const) : []),
  ...(packedDots ? (['dot'] as const) : []),
];

/** A matrix of numbers near 1, or near −128 to 127 in int8. Scales and minima are bfloat16 numbers near 1. */
function someMatrix(backend: WebGpuBackend, format: 'int8' | 'int4', {rows, columns}: Sizes): Matrix {
  const words = (rows / 8) * (groupBytes(format, columns) / 4);
  const perBlock = words / ((rows / 8) * blocksOf(columns));
  const header = format === 'int4' ? 8 : 4;
  const bits = Int32Array.from({length: words}, (_, i) =>
    i % perBlock < header ? 0x3c003c00 + ((i * 37) % 64) * 0x10001 : Math.imul(i, 0x9e3779b1),
  );
  return {tensor: backend.makeTensorInfo([words], 'int32', bits), format, rows, columns, inner: 1};
}

/**
 * Computes a product with each of these variants.
 *
 * @returns the fastest of those that are right, or the first, which is the plain one
 */
async function fastest<V>(
  backend: WebGpuBackend,
  format: 'int8' | 'int4',
  {times, rounds, ...sizes}: Sizes & Effort,
  [first, ...others]: readonly [V, ...V[]],
  use: (variant: V) => void,
): Promise<V> {
  const {count, columns} = sizes;
  const matrix = someMatrix(backend, format, sizes);
  const values = Float32Array.from({length: count * columns}, (_, i) => Math.sin(i));
  const x = backend.makeTensorInfo([count, columns], 'float32', values);
  const run = (count: number) => {
    for (let i = 1; i < count; i++) backend.disposeData(multiply(backend, x, matrix).dataId);
    return multiply(backend, x, matrix);
  };
  const milliseconds = async () => {
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
  const measure = async (variant: V) => {
    use(variant);
    const y = run(1);
    const values = (await backend.read(y.dataId)) as Float32Array;
    backend.disposeData(y.dataId);
    return {values, time: await milliseconds()};
  };
  try {
    const plain = await measure(first);
    const largest = plain.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    let best = {variant: first, time: plain.time};
    for (const variant of others) {
      const {values, time} = await measure(variant);
      const right = values.every((value, i) => Math.abs(value - plain.values[i]!) <= TOLERANCE * largest);
      if (right && time < best.time) best = {variant, time};
    }
    return best.variant;
  } finally {
    use(first);
    for (const {dataId} of [x, matrix.tensor]) backend.disposeData(dataId);
  }
}

/** Chooses whether products of single tokens use this many lanes. */
export async function tryLanes(backend: WebGpuBackend, lanes: number, effort: Effort = TOKEN): Promise<void> {
  if (lanes === 0) return;
  const use = (own: number) => void (backend.lanes = own);
  use(await fastest(backend, 'int4', {...TOKEN, ...effort}, [0, lanes], use));
}

/** Chooses the variants for products of many rows. */
export async function tryCodeTiles(
  backend: WebGpuBackend,
  tiles: readonly CodeTile[],
  sizes: Partial<Sizes & Effort> = {},
): Promise<void> {
  if (tiles.length === 0) return;
  for (const format of CODE_FORMATS) {
    const use = (tile: CodeTile | undefined) => void (backend.codeTiles = {...backend.codeTiles, [format]: tile});
    use(await fastest(backend, format, {...PROMPT, ...sizes}, [undefined, ...tiles], use));
  }
}
