/** Products of one row with plain float32 weights: values, and the same bits however the threads share them. */
import {FLOAT32} from '../../src/backends/simd/engine/command';
import {matMul} from '../../src/backends/simd/kernels/mat_mul';
import {productTolerance, random, settings, SimdMemory} from './simd_memory';

// A kernel (outer, columns, inner): of a dense layer, of attention, and tables, where inner is 1. Fewer and more columns
// than are added at a time, pieces wider than a claim, and every kind of edge.
const SHAPES: [outer: number, columns: number, inner: number][] = [
  [1, 40, 2048],
  [1, 67, 600],
  [1, 3, 1100],
  [4, 64, 256],
  [3, 45, 37],
  [5, 16, 4],
  [64, 640, 1],
  [77, 101, 1],
  [1, 7, 1],
];

const results = new Map<string, Float32Array>();

describe.each(settings)('with %j', options => {
  let memory: SimdMemory;
  beforeAll(async () => {
    memory = await SimdMemory.create(options);
  });
  afterAll(() => memory.engine.dispose());
  afterEach(() => memory.clear());

  test.each(SHAPES)('a kernel (%i, %i, %i)', (outer, columns, inner) => {
    const rows = outer * inner;
    const kernel = random(rows * columns, 3);
    const x = random(columns, 7);
    const y = memory.output(rows);
    memory.run(matMul({w: memory.floats(kernel), type: FLOAT32, inner, x: memory.floats(x), m: 1, y, rows, columns}));
    const actual = memory.result(y, rows);
    const expected = Float64Array.from({length: rows}, (_, n) => {
      const at = Math.floor(n / inner) * columns * inner + (n % inner);
      return x.reduce((sum, v, k) => sum + v * kernel[at + k * inner]!, 0);
    });
    const most = expected.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    const largest = actual.reduce((error, v, n) => Math.max(error, Math.abs(v - expected[n]!)), 0);
    expect(largest).toBeLessThan(productTolerance(FLOAT32) * most);

    // Heads of such widths are divided anywhere, and what is left of a piece is added in another order.
    if (inner > 1 && inner % 8 !== 0) return;
    // Whether a product and a sum round once depends on the instructions, which `relaxed` chooses.
    const key = `${options.relaxed} ${outer} ${columns} ${inner}`;
    if (results.has(key)) expect(actual).toEqual(results.get(key));
    else results.set(key, actual);
  });
});
