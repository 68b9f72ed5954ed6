/** Every kernel against loops in double precision, with and without relaxed instructions, on one and several threads. */
import * as commands from '../../src/backends/simd/commands';
import {BFLOAT16, FLOAT32} from '../../src/backends/simd/commands';
import {error, fromBfloat16, random, SimdMemory, toBfloat16} from './simd_memory';

const settings = [
  {relaxed: true, threads: 1},
  {relaxed: false, threads: 2},
  {relaxed: true, threads: 4},
];

/** y (m, rows) = x (m, columns) · Wᵀ */
function multiply(x: Float32Array, w: Float32Array, m: number, rows: number, columns: number): Float64Array {
  const y = new Float64Array(m * rows);
  for (let i = 0; i < m; i++) {
    for (let n = 0; n < rows; n++) {
      let sum = 0;
      for (let k = 0; k < columns; k++) sum += x[i * columns + k]! * w[n * columns + k]!;
      y[i * rows + n] = sum;
    }
  }
  return y;
}

function transpose(x: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(x, (_, i) => x[(i % rows) * columns + Math.floor(i / rows)]!);
}

/** Rows (outer · inner, columns) as a kernel [outer, columns, inner]. */
function asKernel(rows: Float32Array, outer: number, columns: number, inner: number): Float32Array {
  const size = columns * inner;
  const kernel = new Float32Array(rows.length);
  for (let o = 0; o < outer; o++) {
    kernel.set(transpose(rows.subarray(o * size, (o + 1) * size), inner, columns), o * size);
  }
  return kernel;
}

describe.each(settings)('relaxed $relaxed, $threads threads', options => {
  let memory: SimdMemory;
  beforeAll(async () => {
    memory = await SimdMemory.create(options);
  });
  beforeEach(() => memory.clear());
  afterAll(() => memory.engine.dispose());

  function packed(w: Float32Array, rows: number, columns: number): {at: number; values: Float32Array} {
    const target = memory.place(commands.packedBytes(BFLOAT16, rows, columns));
    memory.run(
      commands.pack({
        source: memory.floats(w),
        sourceType: FLOAT32,
        inner: 1,
        outerStride: columns,
        innerStride: 0,
        columnStride: 1,
        rows,
        columns,
        target,
        targetType: BFLOAT16,
        targetColumns: columns,
      }),
    );
    return {at: target, values: fromBfloat16(toBfloat16(w))};
  }

  function unpacked(at: number, rows: number, columns: number): Float32Array {
    const target = memory.room(rows * columns);
    memory.run(commands.unpack({source: at, type: BFLOAT16, rows, columns, target}));
    return memory.result(target, rows * columns);
  }

  test.each([
    [8, 32],
    [1, 1],
    [17, 70],
    [3, 1100],
    [40, 33],
  ])('pack and unpack %i × %i', (rows, columns) => {
    const w = random(rows * columns, rows);
    const {at, values} = packed(w, rows, columns);
    expect(unpacked(at, rows, columns)).toEqual(values);
  });

  test('packs bfloat16 bits as they are, from tables and kernels of any form', () => {
    for (const [outer, columns, inner] of [
      [1, 37, 1],
      [19, 37, 1],
      [1, 40, 24],
      [3, 40, 16],
      [3, 41, 5],
    ] as const) {
      const rows = outer * inner;
      const w = fromBfloat16(toBfloat16(random(rows * columns, rows)));
      const target = memory.place(commands.packedBytes(BFLOAT16, rows, columns));
      memory.run(
        commands.pack({
          source: memory.halves(toBfloat16(asKernel(w, outer, columns, inner))),
          sourceType: BFLOAT16,
          inner,
          outerStride: columns * inner,
          innerStride: 1,
          columnStride: inner,
          rows,
          columns,
          target,
          targetType: BFLOAT16,
          targetColumns: columns,
        }),
      );
      expect(unpacked(target, rows, columns)).toEqual(w);
    }
  });

  test('packs piece by piece', () => {
    const [rows, columns] = [21, 100];
    const w = fromBfloat16(toBfloat16(random(rows * columns, 5)));
    const target = memory.place(commands.packedBytes(BFLOAT16, rows, columns));
    const source = memory.floats(w);
    for (const [firstRow, endRow] of [
      [0, 16],
      [16, 21],
    ] as const) {
      for (const [firstColumn, endColumn] of [
        [0, 64],
        [64, 100],
      ] as const) {
        memory.run(
          commands.pack({
            source: source + (firstRow * columns + firstColumn) * 4,
            sourceType: FLOAT32,
            inner: 1,
            outerStride: columns,
            innerStride: 0,
            columnStride: 1,
            rows: endRow - firstRow,
            columns: endColumn - firstColumn,
            target,
            targetType: BFLOAT16,
            targetColumns: columns,
            firstRow,
            firstColumn,
          }),
        );
      }
    }
    expect(unpacked(target, rows, columns)).toEqual(w);
  });

  test('rounds as bfloat16 does', () => {
    const values = Float32Array.of(
      1,
      1 + 2 ** -8,
      1 + 3 * 2 ** -8,
      NaN,
      Infinity,
      -Infinity,
      3.4e38,
      -0,
      1e-40,
      1.0039,
    );
    const target = memory.place(commands.packedBytes(BFLOAT16, 1, 10));
    memory.run(
      commands.pack({
        source: memory.floats(values),
        sourceType: FLOAT32,
        inner: 1,
        outerStride: 10,
        innerStride: 0,
        columnStride: 1,
        rows: 1,
        columns: 10,
        target,
        targetType: BFLOAT16,
        targetColumns: 10,
      }),
    );
    const expected = fromBfloat16(toBfloat16(values));
    expected[3] = NaN;
    expect(unpacked(target, 1, 10)).toEqual(expected);
  });

  const shapes: [m: number, rows: number, columns: number][] = [
    [1, 1, 1],
    [1, 24, 64],
    [1, 29, 77],
    [2, 13, 45],
    [3, 70, 640],
    [4, 9, 33],
    [5, 16, 1030],
    [13, 61, 515],
    [33, 8, 1],
  ];

  test.each(shapes)('bfloat16 product, m %i, rows %i, columns %i', (m, rows, columns) => {
    const x = random(m * columns, 1);
    const {at, values} = packed(random(rows * columns, 2), rows, columns);
    const y = memory.room(m * rows);
    memory.run(commands.matMul({w: at, type: BFLOAT16, x: memory.floats(x), m, y, rows, columns}));
    expect(error(memory.result(y, m * rows), multiply(x, values, m, rows, columns))).toBeLessThan(2e-6);
  });

  test.each(shapes)('bfloat16 transposed product, m %i, rows %i, columns %i', (m, rows, columns) => {
    const dy = random(m * rows, 1);
    const {at, values} = packed(random(rows * columns, 2), rows, columns);
    const dx = memory.room(m * columns);
    memory.run(commands.matMulTransposed({w: at, type: BFLOAT16, x: memory.floats(dy), m, y: dx, rows, columns}));
    const expected = multiply(dy, transpose(values, rows, columns), m, columns, rows);
    expect(error(memory.result(dx, m * columns), expected)).toBeLessThan(2e-6);
  });

  describe.each([
    [1, 1],
    [29, 1],
    [1, 64],
    [1, 27],
    [4, 16],
    [3, 9],
    [5, 3],
  ])('float32 kernel [%i, columns, %i]', (outer, inner) => {
    const rows = outer * inner;
    test.each([
      [1, 40],
      [1, 67],
      [2, 21],
      [7, 530],
      [12, 1],
    ])('m %i, columns %i', (m, columns) => {
      const x = random(m * columns, 1);
      const w = random(rows * columns, 2);
      const kernel = memory.floats(asKernel(w, outer, columns, inner));
      const y = memory.room(m * rows);
      memory.run(commands.matMul({w: kernel, type: FLOAT32, inner, x: memory.floats(x), m, y, rows, columns}));
      const expected = multiply(x, w, m, rows, columns);
      expect(error(memory.result(y, m * rows), expected)).toBeLessThan(2e-6);

      const dx = memory.room(m * columns);
      memory.run(commands.matMulTransposed({w: kernel, type: FLOAT32, inner, x: y, m, y: dx, rows, columns}));
      const dy = memory.result(y, m * rows);
      const back = multiply(dy, transpose(w, rows, columns), m, columns, rows);
      expect(error(memory.result(dx, m * columns), back)).toBeLessThan(2e-6);
    });
  });

  test('gather', () => {
    const [rows, columns] = [19, 45];
    const {at, values} = packed(random(rows * columns, 3), rows, columns);
    const ids = [0, 18, 7, 7, 8, 3, 15];
    const expected = Float32Array.from(ids.flatMap(id => [...values.subarray(id * columns, (id + 1) * columns)]));
    for (const [type, table] of [
      [BFLOAT16, at],
      [FLOAT32, memory.floats(values)],
    ] as const) {
      const target = memory.room(expected.length);
      memory.run(commands.gather({table, type, columns, ids: memory.ints(ids), count: ids.length, target}));
      expect(memory.result(target, expected.length)).toEqual(expected);
    }
  });
});
