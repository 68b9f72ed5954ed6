/** Kernels of the decoder block, and the block as one command, against loops in double precision. */
import {bfloat16ToFloat32, float32ToBfloat16} from '../../src/base/half';
import {BFLOAT16, FLOAT32, INT4, INT8, type NumberType, packedBytes} from '../../src/backends/simd/engine/command';
import {attention, type AttentionArgs, attentionPartialBytes} from '../../src/backends/simd/kernels/attention';
import {unpack} from '../../src/backends/simd/kernels/embedding';
import {
  type DenseArgs,
  fusedBlock,
  type FusedBlockArgs,
  fusedBlockWorkspaceBytes,
} from '../../src/backends/simd/kernels/fused_block';
import {gatedGelu} from '../../src/backends/simd/kernels/gelu';
import {rmsNorm} from '../../src/backends/simd/kernels/norms';
import {rotary} from '../../src/backends/simd/kernels/rotary';
import {argMax} from '../../src/backends/simd/kernels/sampling';
import {pack} from '../../src/backends/simd/packing/pack_command';
import {productTolerance, random, settings, SimdMemory} from './simd_memory';

const gelu = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

function norm(x: ArrayLike<number>, scale: ArrayLike<number>, epsilon: number): Float64Array {
  const width = scale.length;
  const y = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += width) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += x[at + i]! ** 2;
    const factor = 1 / Math.sqrt(sum / width + epsilon);
    for (let i = 0; i < width; i++) y[at + i] = x[at + i]! * factor * (1 + scale[i]!);
  }
  return y;
}

/** x (tokens, heads, width), tables (tokens, width / 2). */
function turn(x: ArrayLike<number>, angles: number[][], heads: number, width: number, direction = 1): Float64Array {
  const half = width / 2;
  const y = new Float64Array(x.length);
  for (let row = 0; row < x.length / width; row++) {
    const angle = angles[Math.floor(row / heads)]!;
    for (let i = 0; i < half; i++) {
      const [c, s] = [Math.cos(angle[i]!), Math.sin(angle[i]!) * direction];
      const [a, b] = [x[row * width + i]!, x[row * width + half + i]!];
      y[row * width + i] = a * c - b * s;
      y[row * width + half + i] = b * c + a * s;
    }
  }
  return y;
}

/** Values as a cache of bfloat16 stores them, and the words that it has for them. */
function rounded(x: Float32Array): {words: Int32Array; values: Float32Array} {
  const [words, values] = [new Int32Array(x.length / 2), new Float32Array(x.length)];
  const bits = new Uint16Array(words.buffer);
  float32ToBfloat16(x, bits);
  bfloat16ToFloat32(bits, values);
  return {words, values};
}

interface AttentionSizes {
  batch: number;
  length: number;
  heads: number;
  size: number;
  keyHeads: number;
  width: number;
}

function attend(
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  {batch, length, heads, size, keyHeads, width}: AttentionSizes,
  scale: number,
  softCap: number | null,
  sees: (b: number, t: number, s: number) => boolean,
): Float64Array {
  const y = new Float64Array(batch * length * heads * width);
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < length; t++) {
      for (let n = 0; n < heads; n++) {
        const query = ((b * length + t) * heads + n) * width;
        const keyAt = (s: number) => ((b * size + s) * keyHeads + Math.floor((n * keyHeads) / heads)) * width;
        const weights = Array.from({length: size}, (_, s) => {
          if (!sees(b, t, s)) return 0;
          let dot = 0;
          for (let h = 0; h < width; h++) dot += q[query + h]! * k[keyAt(s) + h]!;
          dot *= scale;
          return Math.exp(softCap ? Math.tanh(dot / softCap) * softCap : dot);
        });
        const total = weights.reduce((a, w) => a + w, 0);
        if (total === 0) continue;
        weights.forEach((weight, s) => {
          for (let h = 0; h < width; h++) y[query + h]! += (weight / total) * v[keyAt(s) + h]!;
        });
      }
    }
  }
  return y;
}

/** x (m, columns) · W (columns, rows) */
function dense(x: ArrayLike<number>, w: ArrayLike<number>, columns: number, rows: number): Float64Array {
  const m = x.length / columns;
  const y = new Float64Array(m * rows);
  for (let i = 0; i < m; i++) {
    for (let k = 0; k < columns; k++) {
      for (let n = 0; n < rows; n++) y[i * rows + n]! += x[i * columns + k]! * w[k * rows + n]!;
    }
  }
  return y;
}

/**
 * Multiple of one product's tolerance: a block chains several products and reads the cached keys of all earlier steps.
 */
const ROUNDS = 8;

interface Kernel {
  /** (columns, rows) */
  flat: Float32Array;
  columns: number;
  rows: number;
  args: DenseArgs;
}

describe.each(settings)('relaxed $relaxed, wide $wide, $threads threads', options => {
  let memory: SimdMemory;
  beforeAll(async () => {
    memory = await SimdMemory.create(options);
  });
  beforeEach(() => memory.clear());
  afterAll(() => memory.engine.dispose());

  test.each([
    [1, 640],
    [5, 7],
    [3, 1],
    [9, 258],
  ])('rmsNorm of %i × %i', (rows, columns) => {
    const [x, scale] = [random(rows * columns, 1), random(columns, 2)];
    const y = memory.output(x.length);
    memory.run(rmsNorm({x: memory.floats(x), scale: memory.floats(scale), y, rows, columns, epsilon: 1e-3}));
    expect(memory.result(y, x.length)).toBeAllClose(norm(x, scale, 1e-3), {rtol: 1e-6});
  });

  test.each([
    {batch: 1, length: 1, heads: 4, width: 256, tableRows: 1, direction: 1},
    {batch: 3, length: 5, heads: 2, width: 6, tableRows: 3, direction: 1},
    {batch: 2, length: 7, heads: 3, width: 10, tableRows: 1, direction: -1},
  ] as const)('rotary %j', ({batch, length, heads, width, tableRows, direction}) => {
    const x = random(batch * length * heads * width, 1);
    const angles = Array.from({length: tableRows * length}, (_, i) => [...random(width / 2, i + 3)].map(a => a * 9));
    const y = memory.output(x.length);
    memory.run(
      rotary({
        x: memory.floats(x),
        cos: memory.floats(angles.flat().map(Math.cos)),
        sin: memory.floats(angles.flat().map(Math.sin)),
        y,
        ...{batch, length, heads, width, tableRows, direction},
      }),
    );
    const all = Array.from({length: batch * length}, (_, i) => angles[i % angles.length]!);
    expect(memory.result(y, x.length)).toBeAllClose(turn(x, all, heads, width, direction), {rtol: 1e-6});
  });

  test.each([1, 2, 33, 1000])('gatedGelu of %i', count => {
    const gate = random(count, 1).map(x => x * 12);
    const value = random(count, 2);
    const y = memory.output(count);
    memory.run(gatedGelu({gate: memory.floats(gate), value: memory.floats(value), y, count}));
    const expected = Array.from(gate, (x, i) => gelu(x) * value[i]!);
    expect(memory.result(y, count)).toBeAllClose(expected, {rtol: 1e-6});
  });

  test('argMax', () => {
    for (const [rows, columns] of [
      [1, 1],
      [3, 5],
      [4, 1003],
    ] as const) {
      const x = random(rows * columns, 7);
      x[columns - 1] = NaN;
      const target = memory.ints(new Int32Array(rows).fill(-7));
      memory.run(argMax({x: memory.floats(x), rows, columns, target}));
      const expected = Array.from({length: rows}, (_, row) => {
        const values = [...x.subarray(row * columns, (row + 1) * columns)].map(v => (Number.isNaN(v) ? -9 : v));
        return values.indexOf(Math.max(...values));
      });
      expect([...new Int32Array(memory.engine.memory.buffer, target, rows)]).toEqual(expected);
    }
  });

  test('argMax returns the first of equal values', () => {
    const x = new Float32Array(64).fill(-3);
    const target = memory.ints([-7]);
    memory.run(argMax({x: memory.floats(x), rows: 1, columns: 64, target}));
    expect(new Int32Array(memory.engine.memory.buffer, target, 1)[0]).toBe(0);
  });

  const cases: (AttentionSizes & Partial<AttentionArgs> & {extra?: ('padding' | 'images' | 'mask')[]})[] = [
    {batch: 1, length: 1, heads: 1, size: 1, keyHeads: 1, width: 2},
    {batch: 1, length: 1, heads: 4, size: 100, keyHeads: 1, width: 32},
    {batch: 2, length: 1, heads: 4, size: 75, keyHeads: 2, width: 20, window: 30},
    {batch: 1, length: 70, heads: 4, size: 70, keyHeads: 1, width: 16},
    {batch: 2, length: 21, heads: 6, size: 33, keyHeads: 2, width: 10, logitSoftCap: 2, window: 9},
    {batch: 2, length: 19, heads: 2, size: 19, keyHeads: 2, width: 34, extra: ['padding', 'images']},
    {
      batch: 2,
      length: 40,
      heads: 2,
      size: 40,
      keyHeads: 1,
      width: 8,
      bidirectional: true,
      window: 8,
      extra: ['padding'],
    },
    {batch: 2, length: 9, heads: 2, size: 20, keyHeads: 1, width: 8, extra: ['mask']},
    {batch: 1, length: 2, heads: 70, size: 20, keyHeads: 1, width: 420, logitSoftCap: 50},
  ];

  const withTypes = cases.flatMap(one => ([FLOAT32, BFLOAT16] as const).map(keyType => ({...one, keyType})));

  test.each(withTypes)('attention %j', ({extra = [], ...sizes}) => {
    const {batch, length, heads, size, keyHeads, width, window = null, bidirectional = false} = sizes;
    const q = random(batch * length * heads * width, 1).map(x => x * 3);
    const numbers = [2, 3].map(seed => random(batch * size * keyHeads * width, seed));
    const packed = numbers.map(rounded);
    const half = sizes.keyType === BFLOAT16;
    const [k, v] = half ? packed.map(({values}) => values) : numbers;
    // The queries are at the last positions of the keys; one slot of the cache is empty.
    const keyPositions = Array.from({length: size}, (_, s) => (s === 1 ? -1 : s));
    const queryPositions = Array.from({length}, (_, t) => size - length + t);
    const padding = Array.from({length: batch * size}, (_, i) => (i % 5 === 2 ? 0 : 1));
    const keyImages = Array.from({length: batch * size}, (_, i) => [0, 1, 1, 1, 0, 2, 2][i % 7]!);
    const queryImages = Array.from({length: batch * length}, (_, i) => {
      return keyImages[Math.floor(i / length) * size + size - length + (i % length)]!;
    });
    const mask = random(batch * length * size, 4).map(x => (x > 0 ? 1 : 0));
    if (length > 1) mask.fill(0, 0, size); // the first query sees no key
    const right = bidirectional ? Math.floor(window! / 2) : (window ?? Infinity) - 1;
    const left = bidirectional ? window! - right - 1 : (window ?? Infinity) - 1;
    const sees = (b: number, t: number, s: number) => {
      const distance = queryPositions[t]! - keyPositions[s]!;
      const [mine, other] = [queryImages[b * length + t]!, keyImages[b * size + s]!];
      const sameImage = extra.includes('images') && mine > 0 && mine === other;
      if (keyPositions[s]! < 0 || distance > left || -distance > right) return false;
      if (!bidirectional && distance < 0 && !sameImage) return false;
      if (extra.includes('padding') && !padding[b * size + s]) return false;
      if (extra.includes('padding') && bidirectional && !padding[b * size + t]) return false;
      return !extra.includes('mask') || mask[(b * length + t) * size + s] !== 0;
    };
    const scale = 1 / Math.sqrt(width);
    const expected = attend(q, k!, v!, sizes, scale, sizes.logitSoftCap ?? null, sees);
    const args: AttentionArgs = {
      ...sizes,
      q: memory.floats(q),
      k: half ? memory.ints(packed[0]!.words) : memory.floats(k!),
      v: half ? memory.ints(packed[1]!.words) : memory.floats(v!),
      y: memory.output(q.length),
      scale,
      queryPositions: memory.ints(queryPositions),
      queryPositionRows: 1,
      keyPositions: memory.ints(Array.from({length: batch}, () => keyPositions).flat()),
      keyPositionRows: batch,
    };
    if (extra.includes('padding')) args.padding = memory.ints(padding);
    if (extra.includes('images')) {
      args.queryImages = memory.ints(queryImages);
      args.keyImages = memory.ints(keyImages);
    }
    if (extra.includes('mask')) Object.assign(args, {mask: memory.floats(mask), maskRows: batch});
    memory.run(attention(args));
    expect(memory.result(args.y, q.length)).toBeAllClose(expected, {rtol: 2e-6});
    if (length === 1) {
      args.y = memory.output(q.length);
      args.partials = memory.place(attentionPartialBytes(args));
      memory.run(attention(args));
      expect(memory.result(args.y, q.length)).toBeAllClose(expected, {rtol: 2e-6});
    }
  });

  const blocks = [
    {batch: 1, hiddenDim: 32, gateDim: 48, numQueryHeads: 4, numKeyValueHeads: 1, headDim: 16, capacity: 16},
    {batch: 1, hiddenDim: 20, gateDim: 13, numQueryHeads: 2, numKeyValueHeads: 2, headDim: 6, capacity: 5, bare: true},
    {batch: 3, hiddenDim: 40, gateDim: 24, numQueryHeads: 4, numKeyValueHeads: 2, headDim: 8, capacity: 4},
    {batch: 2, hiddenDim: 35, gateDim: 33, numQueryHeads: 3, numKeyValueHeads: 1, headDim: 10, capacity: 3},
    {batch: 5, hiddenDim: 24, gateDim: 40, numQueryHeads: 2, numKeyValueHeads: 1, headDim: 12, capacity: 30, window: 3},
  ];

  const blockCases = blocks.flatMap(block => [
    ...([FLOAT32, BFLOAT16, INT8, INT4] as const).map(type => ({...block, type, cacheType: FLOAT32 as NumberType})),
    {...block, type: FLOAT32 as NumberType, cacheType: BFLOAT16 as NumberType},
  ]);

  test.each(blockCases)(
    'decoder block, token by token: %j',
    ({bare = false, capacity, type, cacheType, window = capacity, ...sizes}) => {
      const {batch, hiddenDim, gateDim, numQueryHeads, numKeyValueHeads, headDim} = sizes;
      const keyRow = numKeyValueHeads * headDim;
      const [epsilon, softCap, scale] = [1e-6, bare ? null : 1.5, 0.3];
      const tolerance = ROUNDS * productTolerance(type);
      const kernel = (seed: number, outer: number, columns: number, inner: number): Kernel => {
        const values = random(outer * columns * inner, seed);
        const rows = outer * inner;
        const source = memory.floats(values);
        if (type === FLOAT32) {
          const flat = values.map((_, i) => {
            const [c, n] = [Math.floor(i / rows), i % rows];
            return values[(Math.floor(n / inner) * columns + c) * inner + (n % inner)]!;
          });
          return {flat, columns, rows, args: {type, w: source, inner}};
        }
        const target = memory.place(packedBytes(type, rows, columns));
        memory.run(
          pack({
            source,
            sourceType: FLOAT32,
            inner,
            outerStride: columns * inner,
            innerStride: 1,
            columnStride: inner,
            rows,
            columns,
            target,
            targetType: type,
            targetColumns: columns,
          }),
        );
        // The loops multiply the unpacked values, not the originals.
        const unpacked = memory.output(rows * columns);
        memory.run(unpack({source: target, type, rows, columns, target: unpacked}));
        const packed = memory.result(unpacked, rows * columns);
        const flat = packed.map((_, i) => packed[(i % rows) * columns + Math.floor(i / rows)]!);
        return {flat, columns, rows, args: {type, w: target}};
      };
      const apply = ({flat, columns, rows}: Kernel, x: ArrayLike<number>) => dense(x, flat, columns, rows);
      const query = kernel(1, numQueryHeads, hiddenDim, headDim);
      const key = kernel(2, numKeyValueHeads, hiddenDim, headDim);
      const value = kernel(3, numKeyValueHeads, hiddenDim, headDim);
      const output = kernel(4, 1, numQueryHeads * headDim, hiddenDim);
      const gate = kernel(5, 1, hiddenDim, gateDim);
      const up = kernel(6, 1, hiddenDim, gateDim);
      const down = kernel(7, 1, gateDim, hiddenDim);
      const scales = [hiddenDim, hiddenDim, hiddenDim, hiddenDim, headDim, headDim].map((n, i) => random(n, 20 + i));
      const [preAttention, postAttention, preFfw, postFfw, queryNorm, keyNorm] = scales as Float32Array[];
      const optional = (scale: Float32Array | undefined) => (bare ? 0 : memory.floats(scale!));

      const cacheWords = (batch * capacity * keyRow) / (cacheType === BFLOAT16 ? 2 : 1);
      const args: FusedBlockArgs = {
        ...sizes,
        x: 0,
        y: memory.output(batch * hiddenDim),
        epsilon,
        scale,
        logitSoftCap: softCap,
        window,
        cachedKeys: memory.floats(new Float32Array(cacheWords)),
        cachedValues: memory.floats(new Float32Array(cacheWords)),
        capacity,
        cacheType,
        positions: memory.ints(new Int32Array(batch)),
        cos: memory.output((batch * headDim) / 2),
        sin: memory.output((batch * headDim) / 2),
        tableRows: batch,
        norms: {
          preAttention: memory.floats(preAttention!),
          postAttention: optional(postAttention),
          preFfw: memory.floats(preFfw!),
          postFfw: optional(postFfw),
          query: optional(queryNorm),
          key: optional(keyNorm),
        },
        query: query.args,
        key: key.args,
        value: value.args,
        output: output.args,
        gate: gate.args,
        up: up.args,
        down: down.args,
        workspace: memory.place(fusedBlockWorkspaceBytes(sizes, memory.engine.threads)),
      };
      args.x = memory.output(batch * hiddenDim);
      const maybe = (x: Float64Array, scale: Float32Array | undefined) => (bare ? x : norm(x, scale!, epsilon));
      const floats = (at: number, count: number) => new Float32Array(memory.engine.memory.buffer, at, count);

      const steps = 6;
      const size = steps + batch;
      const history = {k: new Float64Array(batch * size * keyRow), v: new Float64Array(batch * size * keyRow)};
      for (let step = 0; step < steps; step++) {
        // Row b begins b tokens after row 0, and has no token before that.
        const positions = Array.from({length: batch}, (_, b) => step - b);
        const x = random(batch * hiddenDim, 100 + step);
        const angles = positions.map(p => Array.from({length: headDim / 2}, (_, i) => p / 3 ** i));
        floats(args.x, x.length).set(x);
        floats(args.cos, angles.flat().length).set(angles.flat().map(Math.cos));
        floats(args.sin, angles.flat().length).set(angles.flat().map(Math.sin));
        new Int32Array(memory.engine.memory.buffer, args.positions, batch).set(positions);
        memory.run(fusedBlock(args));

        const normed = norm(x, preAttention!, epsilon);
        const q = turn(maybe(apply(query, normed), queryNorm), angles, numQueryHeads, headDim);
        const k = turn(maybe(apply(key, normed), keyNorm), angles, numKeyValueHeads, headDim);
        const v = apply(value, normed);
        positions.forEach((p, b) => {
          if (p < 0) return;
          history.k.set(k.subarray(b * keyRow, (b + 1) * keyRow), (b * size + p) * keyRow);
          history.v.set(v.subarray(b * keyRow, (b + 1) * keyRow), (b * size + p) * keyRow);
          if (cacheType !== BFLOAT16) return;
          // What the kernel rounds differs a little from these numbers, so the loops go on with what it has stored.
          for (const [at, past] of [
            [args.cachedKeys, history.k],
            [args.cachedValues, history.v],
          ] as const) {
            const slot = (b * capacity + (p % capacity)) * keyRow;
            const stored = new Float32Array(keyRow);
            bfloat16ToFloat32(new Uint16Array(memory.engine.memory.buffer, at + 2 * slot, keyRow), stored);
            const own = past.subarray((b * size + p) * keyRow, (b * size + p + 1) * keyRow);
            stored.forEach((value, i) => {
              expect(Math.abs(value - own[i]!)).toBeLessThanOrEqual(2 ** -8 * 1.001 * Math.abs(own[i]!) + 1e-6);
              own[i] = value;
            });
          }
        });
        const attended = attend(
          q,
          history.k,
          history.v,
          {batch, length: 1, heads: numQueryHeads, size, keyHeads: numKeyValueHeads, width: headDim},
          scale,
          softCap,
          (b, _, s) => s <= positions[b]! && positions[b]! - s < Math.min(window, capacity),
        );
        const residual = maybe(apply(output, attended), postAttention).map((y, i) => y + x[i]!);
        const inside = norm(residual, preFfw!, epsilon);
        const [g, u] = [apply(gate, inside), apply(up, inside)];
        const ffw = maybe(
          apply(
            down,
            g.map((x, i) => gelu(x) * u[i]!),
          ),
          postFfw,
        );
        const expected = ffw.map((y, i) => y + residual[i]!);
        expect(memory.result(args.y, expected.length)).toBeAllClose(expected, {rtol: tolerance});
      }
    },
  );
});
