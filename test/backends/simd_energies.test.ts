/** Packing as int4 with columns of different weight, against a search in double precision. */
import {BFLOAT16, INT4, packedBytes} from '../../src/backends/simd/engine/command';
import {unpack} from '../../src/backends/simd/kernels/embedding';
import {pack} from '../../src/backends/simd/packing/pack_command';
import {fromBfloat16, random, settings, SimdMemory, toBfloat16} from './simd_memory';

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const bfloat16 = (value: number) => fromBfloat16(toBfloat16(Float32Array.of(value)))[0]!;

/** Some columns count up to 10,000 times as much as others. */
const energiesOf = (columns: number, seed: number) => random(columns, seed).map(x => 10 ** (2 * x));

/**
 * The least sum of weighted squares of errors of a block: of six step sizes, each with the line through values over
 * integers that weighted least squares give.
 */
function leastError(values: readonly number[], energies: readonly number[]): number {
  const [least, largest] = [Math.min(...values), Math.max(...values)];
  if (least === largest) return 0;
  const total = sum(energies);
  const mean = sum(values.map((v, i) => v * energies[i]!)) / total;
  const clip = (n: number) => Math.min(15, Math.max(0, n));
  const lines = [14.3, 14.8, 15.3, 15.8, 16.3, 16.8].map(steps => {
    const n = values.map(v => clip(Math.round(((v - least) * steps) / (largest - least))));
    const middle = sum(n.map((k, i) => k * energies[i]!)) / total;
    const spread = sum(n.map((k, i) => energies[i]! * (k - middle) ** 2));
    const together = sum(n.map((k, i) => energies[i]! * (k - middle) * (values[i]! - mean)));
    const scale = spread === 0 ? 0 : together / spread;
    return {scale, minimum: mean - scale * middle, explained: scale * together};
  });
  const best = lines.reduce((a, b) => (b.explained > a.explained ? b : a));
  const [scale, minimum] = [bfloat16(best.scale), bfloat16(best.minimum)];
  return sum(
    values.map((v, i) => {
      const n = scale === 0 ? 0 : clip(Math.round((v - minimum) / scale));
      return energies[i]! * (scale * n + minimum - v) ** 2;
    }),
  );
}

describe.each(settings)('relaxed $relaxed, wide $wide, $threads threads', options => {
  let memory: SimdMemory;
  beforeAll(async () => {
    memory = await SimdMemory.create(options);
  });
  beforeEach(() => memory.clear());
  afterAll(() => memory.engine.dispose());

  /** A piece of a matrix, all of it unless given. */
  interface Piece {
    firstRow?: number;
    firstColumn?: number;
    endColumn?: number;
  }

  function packInto(
    target: number,
    w: Float32Array,
    rows: number,
    columns: number,
    energies?: Float32Array,
    piece: Piece = {},
  ) {
    const {firstRow = 0, firstColumn = 0, endColumn = columns} = piece;
    memory.run(
      pack({
        source: memory.halves(toBfloat16(w)) + 2 * (firstRow * columns + firstColumn),
        sourceType: BFLOAT16,
        ...{inner: 1, outerStride: columns, innerStride: 0, columnStride: 1},
        ...{rows: rows - firstRow, columns: endColumn - firstColumn, firstRow, firstColumn},
        ...{target, targetType: INT4, targetColumns: columns},
        ...(energies && {energies: memory.floats(energies.subarray(firstColumn, endColumn))}),
      }),
    );
  }

  const bytesAt = (target: number, rows: number, columns: number) =>
    new Uint8Array(memory.engine.memory.buffer, target, packedBytes(INT4, rows, columns)).slice();

  function packed(w: Float32Array, rows: number, columns: number, energies?: Float32Array) {
    const target = memory.place(packedBytes(INT4, rows, columns));
    packInto(target, w, rows, columns, energies);
    const floats = memory.output(rows * columns);
    memory.run(unpack({source: target, type: INT4, rows, columns, target: floats}));
    return {bytes: bytesAt(target, rows, columns), values: memory.result(floats, rows * columns)};
  }

  test.each([
    [8, 32],
    [17, 70],
    [3, 1100],
    [40, 33],
  ])('%i × %i', (rows, columns) => {
    const w = fromBfloat16(toBfloat16(random(rows * columns, rows)));
    const energies = energiesOf(columns, 7);
    const {values} = packed(w, rows, columns, energies);
    for (let n = 0; n < rows; n++) {
      for (let first = 0; first < columns; first += 32) {
        const end = Math.min(columns, first + 32);
        const row = (of: Float32Array) => Array.from(of.subarray(n * columns + first, n * columns + end));
        const own = Array.from(energies.subarray(first, end));
        const error = sum(row(values).map((v, i) => own[i]! * (v - row(w)[i]!) ** 2));
        // Zeros pad the last block: they count nothing, but belong to its range.
        const padded = [...row(w), ...new Array<number>(first + 32 - end).fill(0)];
        const least = leastError(padded, [...own, ...new Array<number>(first + 32 - end).fill(0)]);
        // A value in the middle between two steps may go to either, with different lines.
        expect(error).toBeLessThan(1.02 * least + 1e-6 * Math.max(...own));
      }
    }
  });

  test('equal energies change nothing, and large ones save where they are', () => {
    const [rows, columns] = [24, 96];
    const w = fromBfloat16(toBfloat16(random(rows * columns, 3)));
    const plain = packed(w, rows, columns);
    expect(packed(w, rows, columns, new Float32Array(columns).fill(1)).bytes).toEqual(plain.bytes);
    const energies = energiesOf(columns, 9);
    const weighted = (values: Float32Array) =>
      sum(Array.from(values, (v, i) => energies[i % columns]! * (v - w[i]!) ** 2));
    const better = packed(w, rows, columns, energies);
    expect(weighted(better.values)).toBeLessThan(0.8 * weighted(plain.values));
  });

  test('pieces have the bits of the whole', () => {
    const [rows, columns] = [21, 1100];
    const w = random(rows * columns, 5);
    const energies = energiesOf(columns, 11);
    const {bytes} = packed(w, rows, columns, energies);
    const target = memory.place(packedBytes(INT4, rows, columns));
    for (const [firstColumn, endColumn] of [
      [0, 544],
      [544, 1100],
    ] as const) {
      packInto(target, w, 16, columns, energies, {firstColumn, endColumn});
      packInto(target, w, rows, columns, energies, {firstRow: 16, firstColumn, endColumn});
    }
    expect(bytesAt(target, rows, columns)).toEqual(bytes);
  });
});
