/** Packing, matrix products and lookups against loops in double precision, on all settings. */
import {
  BFLOAT16,
  FLOAT32,
  groupBytes,
  INT4,
  INT8,
  type NumberType,
  packedBytes,
  type PackedType,
} from '../../src/backends/simd/engine/command';
import {gather, unpack} from '../../src/backends/simd/kernels/embedding';
import {matMul, matMulTransposed} from '../../src/backends/simd/kernels/mat_mul';
import {pack} from '../../src/backends/simd/packing/pack_command';
import {fromBfloat16, productTolerance, random, settings, SimdMemory, toBfloat16} from './simd_memory';

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

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** W[n, k] in packed bytes. */
function packedValue(view: DataView, type: PackedType, columns: number, n: number, k: number): number {
  const group = (n >> 3) * groupBytes(type, columns);
  const r = n & 7;
  const half = (at: number) => {
    word[0] = view.getUint16(at, true) << 16;
    return float[0]!;
  };
  if (type === BFLOAT16) return half(group + (k >> 1) * 32 + r * 4 + (k & 1) * 2);
  const block = group + (k >> 5) * (type === INT8 ? 272 : 160);
  const i = k & 31;
  const scale = half(block + r * 2);
  if (type === INT8) {
    const at = block + 16 + (i >> 2) * 32 + r * 4 + (i & 3);
    return scale * (i & 1 ? view.getInt8(at) : view.getUint8(at) - 128);
  }
  const byte = view.getUint8(block + 32 + (i >> 3) * 32 + r * 4 + (i & 3));
  return scale * (i & 4 ? byte >> 4 : byte & 15) + half(block + 16 + r * 2);
}

/** Products of the first settings, by type and shape. */
const products = new Map<string, Float32Array>();

describe.each(settings)('relaxed $relaxed, wide $wide, $threads threads', options => {
  let memory: SimdMemory;
  beforeAll(async () => {
    memory = await SimdMemory.create(options);
  });
  beforeEach(() => memory.clear());
  afterAll(() => memory.engine.dispose());

  /** Packs rows, and returns the packed values, decoded by the documented layout. */
  function packed(w: Float32Array, rows: number, columns: number, type: PackedType = BFLOAT16) {
    const bytes = packedBytes(type, rows, columns);
    const target = memory.place(bytes);
    memory.run(
      pack({
        source: memory.floats(w),
        sourceType: FLOAT32,
        inner: 1,
        outerStride: columns,
        innerStride: 0,
        columnStride: 1,
        rows,
        columns,
        target,
        targetType: type,
        targetColumns: columns,
      }),
    );
    const view = new DataView(memory.engine.memory.buffer, target, bytes);
    const values = new Float32Array(rows * columns);
    for (let n = 0; n < rows; n++) {
      for (let k = 0; k < columns; k++) values[n * columns + k] = packedValue(view, type, columns, n, k);
    }
    return {at: target, values};
  }

  function unpacked(at: number, rows: number, columns: number, type: PackedType = BFLOAT16): Float32Array {
    const target = memory.output(rows * columns);
    memory.run(unpack({source: at, type, rows, columns, target}));
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
    expect(values).toEqual(fromBfloat16(toBfloat16(w)));
    expect(unpacked(at, rows, columns)).toEqual(values);
    for (const type of [INT8, INT4] as const) {
      const {at, values} = packed(w, rows, columns, type);
      expect(unpacked(at, rows, columns, type)).toBeAllClose(values, {rtol: 1e-6});
      // Half a step plus the rounding of scales; int4 may clip the ends of the range for finer steps.
      expect(values).toBeAllClose(w, {rtol: type === INT8 ? 0.51 / 127 : 0.12});
    }
  });

  test('packs blocks of zeros and of equal values', () => {
    const w = Float32Array.from({length: 16 * 64}, (_, i) => (i < 512 ? 0 : 0.75));
    for (const type of [INT8, INT4] as const) expect(packed(w, 16, 64, type).values).toBeAllClose(w, {rtol: 0.004});
  });

  test('int4 fits better than rounding between minimum and maximum', () => {
    const [rows, columns] = [64, 256];
    // Nearly normally distributed.
    const parts = [1, 2, 3, 4].map(seed => random(rows * columns, seed));
    const w = parts[0]!.map((_, i) => parts.reduce((sum, part) => sum + part[i]!, 0));
    const plain = w.map((x, i) => {
      const block = w.subarray(i - (i % 32), i - (i % 32) + 32);
      const [least, largest] = [Math.min(...block), Math.max(...block)];
      const step = (largest - least) / 15;
      return Math.round((x - least) / step) * step + least;
    });
    const squares = (values: Float32Array) => values.reduce((sum, v, i) => sum + (v - w[i]!) ** 2, 0);
    expect(squares(packed(w, rows, columns, INT4).values)).toBeLessThan(0.9 * squares(plain));
  });

  test('packs bfloat16 bits unchanged, from tables and kernels of any form', () => {
    for (const [outer, columns, inner] of [
      [1, 37, 1],
      [19, 37, 1],
      [1, 40, 24],
      [3, 40, 16],
      [3, 41, 5],
    ] as const) {
      const rows = outer * inner;
      const w = fromBfloat16(toBfloat16(random(rows * columns, rows)));
      const target = memory.place(packedBytes(BFLOAT16, rows, columns));
      memory.run(
        pack({
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
    const target = memory.place(packedBytes(BFLOAT16, rows, columns));
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
          pack({
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

  test('rounds to the nearest bfloat16', () => {
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
    const target = memory.place(packedBytes(BFLOAT16, 1, 10));
    memory.run(
      pack({
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

  test.each(
    ([FLOAT32, BFLOAT16, INT8, INT4] as const).flatMap(type => [
      [type, 24, 64],
      [type, 61, 1030],
      [type, 8, 45],
    ]),
  )('a row has the same product alone as with others: type %i, rows %i, columns %i', (type, rows, columns) => {
    const m = 133;
    // Some values are far larger than the others.
    const x = random(m * columns, 4).map((v, i) => v ** 5 * (1 + (i % 7)));
    const weights = random(rows * columns, 2);
    const w = type === FLOAT32 ? memory.floats(weights) : packed(weights, rows, columns, type as PackedType).at;
    const from = memory.floats(x);
    const run = (first: number, count: number) => {
      const y = memory.output(count * rows);
      memory.run(matMul({w, type: type as NumberType, x: from + first * columns * 4, m: count, y, rows, columns}));
      return memory.result(y, count * rows);
    };
    const all = run(0, m);
    // Narrow tiles add the same integers in the same order as products of few rows.
    const exact = (type === INT8 || type === INT4) && !options.wide;
    for (const [first, count] of [
      [0, 1],
      [132, 1],
      [3, 2],
      [7, 3],
      [2, 4],
      [1, 130],
    ] as const) {
      const some = run(first, count);
      const same = all.subarray(first * rows, (first + count) * rows);
      if (exact) expect(some).toEqual(same);
      else expect(some).toBeAllClose(same, {rtol: 3e-6});
    }
    // Nor does it depend on the number of threads, the shape of tiles or the instructions.
    const key = `${type} ${rows} ${columns}`;
    const before = products.get(key) ?? all;
    products.set(key, before);
    expect(all).toBeAllClose(before, {rtol: 3e-6});
  });

  test.each([INT8, INT4] as const)('type %i: a row with NaN or infinity gives NaN, the others do not', type => {
    const [rows, columns] = [9, 70];
    const w = packed(random(rows * columns, 2), rows, columns, type).at;
    for (const m of [1, 3, 6]) {
      for (const value of [NaN, Infinity]) {
        const x = random(m * columns, 1);
        x[(m - 1) * columns + 66] = value;
        const y = memory.output(m * rows);
        memory.run(matMul({w, type, x: memory.floats(x), m, y, rows, columns}));
        const result = memory.result(y, m * rows);
        expect(result.subarray(0, -rows).every(Number.isFinite)).toBe(true);
        expect(result.subarray(-rows).some(Number.isFinite)).toBe(false);
      }
    }
  });

  const formats = [
    {name: 'bfloat16', type: BFLOAT16},
    {name: 'int8', type: INT8},
    {name: 'int4', type: INT4},
  ] as const;

  describe.each(formats)('$name', ({type}) => {
    test.each(shapes)('product, m %i, rows %i, columns %i', (m, rows, columns) => {
      const x = random(m * columns, 1);
      const {at, values} = packed(random(rows * columns, 2), rows, columns, type);
      const y = memory.output(m * rows);
      memory.run(matMul({w: at, type, x: memory.floats(x), m, y, rows, columns}));
      const expected = multiply(x, values, m, rows, columns);
      expect(memory.result(y, m * rows)).toBeAllClose(expected, {rtol: productTolerance(type)});
    });

    test.each(shapes)('transposed product, m %i, rows %i, columns %i', (m, rows, columns) => {
      const dy = random(m * rows, 1);
      const {at, values} = packed(random(rows * columns, 2), rows, columns, type);
      const dx = memory.output(m * columns);
      memory.run(matMulTransposed({w: at, type, x: memory.floats(dy), m, y: dx, rows, columns}));
      const expected = multiply(dy, transpose(values, rows, columns), m, columns, rows);
      expect(memory.result(dx, m * columns)).toBeAllClose(expected, {rtol: 2e-6});
    });

    test('gather', () => {
      const [rows, columns] = [19, 45];
      const {at, values} = packed(random(rows * columns, 3), rows, columns, type);
      const ids = [0, 18, 7, 7, 8, 3, 15];
      const expected = Float32Array.from(ids.flatMap(id => [...values.subarray(id * columns, (id + 1) * columns)]));
      const target = memory.output(expected.length);
      const table = {table: at, type, columns, ids: memory.ints(ids), count: ids.length, target};
      memory.run(gather(table));
      expect(memory.result(target, expected.length)).toBeAllClose(expected, {rtol: 1e-6});
      memory.run(gather({...table, table: memory.floats(values), type: FLOAT32}));
      expect(memory.result(target, expected.length)).toEqual(expected);
    });
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
      const y = memory.output(m * rows);
      memory.run(matMul({w: kernel, type: FLOAT32, inner, x: memory.floats(x), m, y, rows, columns}));
      const expected = multiply(x, w, m, rows, columns);
      expect(memory.result(y, m * rows)).toBeAllClose(expected, {rtol: 2e-6});

      const dx = memory.output(m * columns);
      memory.run(matMulTransposed({w: kernel, type: FLOAT32, inner, x: y, m, y: dx, rows, columns}));
      const dy = memory.result(y, m * rows);
      const back = multiply(dy, transpose(w, rows, columns), m, columns, rows);
      expect(memory.result(dx, m * columns)).toBeAllClose(back, {rtol: 2e-6});
    });
  });
});
