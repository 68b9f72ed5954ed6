/** Work that threads share: results have the same bits for any number of threads, and waiting leaves no traces. */
import {CLAIMS, PHASES, SLEEPERS_AT_BARRIER} from '../../src/backends/simd/assembly/numbers';
import {
  BFLOAT16,
  type Command,
  FLOAT32,
  INT4,
  INT8,
  nothing,
  type NumberType,
  packedBytes,
} from '../../src/backends/simd/engine/command';
import {type SimdEngineOptions} from '../../src/backends/simd/engine/options';
import {attention, attentionPartialBytes} from '../../src/backends/simd/kernels/attention';
import {headLoss, headLossWorkspaceBytes} from '../../src/backends/simd/kernels/head_loss';
import {matMul, matMulTransposed} from '../../src/backends/simd/kernels/mat_mul';
import {columnSums} from '../../src/backends/simd/kernels/arithmetic';
import * as sampling from '../../src/backends/simd/kernels/sampling';
import {pack} from '../../src/backends/simd/packing/pack_command';
import {random, SimdMemory} from './simd_memory';

/** More threads than most machines have cores, and a number that divides nothing evenly. */
const THREADS = [1, 2, 3, 7];

const memories: SimdMemory[] = [];
afterAll(() => Promise.all(memories.map(({engine}) => engine.dispose())));

async function create(threads: number, options: SimdEngineOptions = {}): Promise<SimdMemory> {
  const memory = await SimdMemory.create({threads, wide: false, relaxed: true, ...options});
  memories.push(memory);
  return memory;
}

/** Weights (rows, columns) of this type. */
function weights(memory: SimdMemory, type: NumberType, rows: number, columns: number): number {
  const source = memory.floats(random(rows * columns, rows + columns));
  if (type === FLOAT32) return source;
  const target = memory.place(packedBytes(type, rows, columns));
  const order = {inner: 1, outerStride: columns, innerStride: 0, columnStride: 1};
  const sizes = {rows, columns, targetColumns: columns};
  memory.run(pack({source, sourceType: FLOAT32, ...order, ...sizes, target, targetType: type}));
  return target;
}

function sameBits(a: Float32Array, b: Float32Array): boolean {
  return Buffer.from(a.buffer).equals(Buffer.from(b.buffer));
}

/** Runs a command that writes `count` values at `at`, several times: threads claim something else each time. */
function resultOf(memory: SimdMemory, command: Command, at: number, count: number): Float32Array {
  memory.run(command);
  const first = memory.result(at, count);
  for (let i = 0; i < 3; i++) {
    memory.run(command);
    expect(sameBits(memory.result(at, count), first)).toBe(true);
  }
  return first;
}

const TYPES = {float32: FLOAT32, bfloat16: BFLOAT16, int8: INT8, int4: INT4} as const;

/** Each runs some commands and returns their results. */
const WORK: Record<string, (memory: SimdMemory) => Float32Array[]> = {
  // One row, three rows, and several blocks of rows; one and several passes over the columns.
  ...Object.fromEntries(
    Object.entries(TYPES).map(([name, type]) => [
      `products with ${name}`,
      (memory: SimdMemory) =>
        [1, 3, 7, 300].flatMap(m =>
          [
            {rows: 203, columns: 96},
            {rows: 40, columns: 1400},
          ].map(({rows, columns}) => {
            memory.clear();
            const w = weights(memory, type, rows, columns);
            const y = memory.output(m * rows);
            const args = {w, type, x: memory.floats(random(m * columns, m)), m, y, rows, columns};
            return resultOf(memory, matMul(args), y, m * rows);
          }),
        ),
    ]),
  ),
  'products with the transpose': memory =>
    ([BFLOAT16, FLOAT32] as const).map(type => {
      memory.clear();
      const [m, rows, columns] = [300, 900, 130];
      const w = weights(memory, type, rows, columns);
      const y = memory.output(m * columns);
      const args = {w, type, x: memory.floats(random(m * rows, 1)), m, y, rows, columns};
      return resultOf(memory, matMulTransposed(args), y, m * columns);
    }),
  'attention of one token': memory =>
    [1, 40, 300, 1100, 2500].map(size => {
      memory.clear();
      const sizes = {batch: 2, length: 1, heads: 4, size, keyHeads: 2, width: 12};
      const keys = 2 * size * 2 * 12;
      const args = {
        ...sizes,
        q: memory.floats(random(96, 1)),
        k: memory.floats(random(keys, 2)),
        v: memory.floats(random(keys, 3)),
        y: memory.output(96),
        scale: 0.3,
        queryPositions: memory.ints([size - 1]),
        queryPositionRows: 1,
        keyPositions: memory.ints(Array.from({length: size}, (_, i) => i)),
        keyPositionRows: 1,
        partials: memory.place(attentionPartialBytes(sizes)),
      };
      return resultOf(memory, attention(args), args.y, 96);
    }),
  'sums of a row and draws from it': memory => {
    const [rows, columns] = [3, 20011];
    const x = memory.floats(random(rows * columns, 4).map(v => 6 * v));
    const [sums, drawn] = [memory.output(2 * rows), memory.output(rows)];
    const uniforms = memory.place(8 * rows + 4);
    const aligned = Math.ceil(uniforms / 8) * 8;
    new Float64Array(memory.engine.memory.buffer, aligned, rows).set([0.1, 0.5, 0.99999]);
    const places = {x, rows, columns, temperature: 0.7};
    return [
      resultOf(memory, sampling.softmaxSums({...places, target: sums}), sums, 2 * rows),
      resultOf(memory, sampling.draw({...places, target: drawn, uniforms: aligned}), drawn, rows),
    ];
  },
  'the largest values': memory => {
    const [rows, columns, k] = [2, 9001, 50];
    // Few distinct values, so that many are equal.
    const x = memory.floats(random(rows * columns, 5).map(v => Math.round(9 * v)));
    const [values, indices, best] = [memory.output(rows * k), memory.output(rows * k), memory.output(rows)];
    const top = sampling.topK({x, rows, columns, k, values, indices, step: 4 * k, indicesAsFloats: true});
    return [
      resultOf(memory, top, values, rows * k),
      resultOf(memory, top, indices, rows * k),
      resultOf(memory, sampling.argMax({x, rows, columns, target: best}), best, rows),
    ];
  },
  'sums of columns': memory => {
    const [rows, columns] = [150, 700];
    const target = memory.output(columns);
    return [
      resultOf(
        memory,
        columnSums({x: memory.floats(random(rows * columns, 6)), rows, columns, target}),
        target,
        columns,
      ),
    ];
  },
  'losses of a head': memory => {
    const sizes = {rows: 90, vocabulary: 2100, width: 40};
    const [differences, sums, gradients] = [90, 90, 90 * 40].map(count => memory.output(count)) as [
      number,
      number,
      number,
    ];
    const command = headLoss({
      ...{...sizes, type: BFLOAT16, w: weights(memory, BFLOAT16, 2100, 40), x: memory.floats(random(90 * 40, 7))},
      ...{differences, sums, gradients, targets: memory.ints(Array.from({length: 90}, (_, i) => 23 * i))},
      workspace: memory.place(headLossWorkspaceBytes(sizes, memory.engine.threads)),
    });
    return [
      resultOf(memory, command, differences, 90),
      resultOf(memory, command, sums, 90),
      resultOf(memory, command, gradients, 90 * 40),
    ];
  },
};

// Trials at start might choose different kernels for each engine.
describe.each([
  {wide: false, byteTiles: false, wordTiles: true},
  {wide: true, byteTiles: false, wordTiles: true},
  {wide: true, byteTiles: false, wordTiles: false},
])('same bits for any number of threads, wide tiles: $wide, of integers: $wordTiles', options => {
  const engines: SimdMemory[] = [];
  beforeAll(async () => {
    for (const threads of THREADS) engines.push(await create(threads, options));
  });

  test.each(Object.keys(WORK))('%s', name => {
    const [one, ...others] = engines.map(memory => {
      memory.clear();
      return WORK[name]!(memory);
    });
    for (const results of others) {
      expect(results.map((result, i) => sameBits(result, one![i]!))).toEqual(one!.map(() => true));
    }
  });
});

test('threads that sleep at a barrier are counted, and wake up', async () => {
  const {engine} = await create(7);
  for (let i = 0; i < 200; i++) engine.run(...nothing());
  const {control} = engine.banks[0]!;
  // All threads have reached the same barrier; some may still be waking up.
  const phases = Array.from({length: 7}, (_, thread) => control[PHASES / 4 + 16 * thread]);
  expect(phases).toEqual(new Array(7).fill(200));
  for (let i = 0; i < 500 && Atomics.load(control, SLEEPERS_AT_BARRIER / 4) > 0; i++) {
    await new Promise(resolve => setTimeout(resolve, 10));
  }
  expect(Atomics.load(control, SLEEPERS_AT_BARRIER / 4)).toBe(0);
});

test('both counters of claims are zero between commands', async () => {
  const memory = await create(3);
  const x = memory.floats(random(5000, 1));
  const target = memory.output(2);
  for (let i = 0; i < 9; i++) {
    memory.run(sampling.argMax({x, rows: 1 + (i % 2), columns: 2500, target}));
    const {control} = memory.engine.banks[0]!;
    const counters = [0, 16].map(line => Atomics.load(control, CLAIMS / 4 + line));
    const next = control[PHASES / 4]! & 1;
    // The counter of the phase before the next one is reset while that one runs.
    expect(counters[next]).toBe(0);
  }
});

test('ends right after a command, however busy the machine is', async () => {
  for (let i = 0; i < 5; i++) {
    const {engine} = await create(5);
    engine.run(...nothing());
    await engine.dispose();
    expect(() => engine.run(...nothing())).toThrow('disposed');
  }
});
