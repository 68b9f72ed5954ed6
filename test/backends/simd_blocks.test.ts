/** Several decoder blocks as one command against one command for each: the same, bit for bit. */
import {BFLOAT16, FLOAT32, INT4, INT8, type NumberType, packedBytes} from '../../src/backends/simd/engine/command';
import {FusedBlockWord} from '../../src/backends/simd/assembly/layouts/fused_block';
import {
  type DenseArgs,
  fusedBlock,
  type FusedBlockArgs,
  fusedBlocks,
  fusedBlockWorkspaceBytes,
  setBlockWords,
} from '../../src/backends/simd/kernels/fused_block';
import {pack} from '../../src/backends/simd/packing/pack_command';
import {random, settings, SimdMemory} from './simd_memory';

const SIZES = {batch: 2, hiddenDim: 40, gateDim: 33, numQueryHeads: 4, numKeyValueHeads: 2, headDim: 8};
const CAPACITY = 4;
const BLOCKS = 3;

describe.each(settings)('relaxed $relaxed, wide $wide, $threads threads', options => {
  let memory: SimdMemory;
  beforeAll(async () => {
    memory = await SimdMemory.create(options);
  });
  beforeEach(() => memory.clear());
  afterAll(() => memory.engine.dispose());

  const dense = (type: NumberType, seed: number, columns: number, rows: number): DenseArgs => {
    const source = memory.floats(random(columns * rows, seed));
    if (type === FLOAT32) return {type, w: source, inner: rows};
    const target = memory.place(packedBytes(type, rows, columns));
    const strides = {inner: rows, outerStride: columns * rows, innerStride: 1, columnStride: rows};
    const packed = {target, targetType: type, targetColumns: columns};
    memory.run(pack({source, sourceType: FLOAT32, ...strides, rows, columns, ...packed}));
    return {type, w: target};
  };

  test.each([FLOAT32, BFLOAT16, INT8, INT4] as const)('weights of type %i', type => {
    const {batch, hiddenDim, gateDim, numQueryHeads, numKeyValueHeads, headDim} = SIZES;
    const [queries, keys] = [numQueryHeads * headDim, numKeyValueHeads * headDim];
    const words = BLOCKS * FusedBlockWord.end;
    const shared = {
      ...{positions: memory.ints(new Int32Array(batch)), tableRows: batch, capacity: CAPACITY},
      ...{x: memory.output(batch * hiddenDim), y: memory.output(batch * hiddenDim), epsilon: 1e-6, scale: 0.3},
      workspace: memory.place(fusedBlockWorkspaceBytes(SIZES, memory.engine.threads)),
    };
    const cache = () => memory.floats(new Float32Array(batch * CAPACITY * keys));
    const blocks = Array.from({length: BLOCKS}, (_, i): FusedBlockArgs => {
      const own = (seed: number, columns: number, rows: number) => dense(type, 10 * i + seed, columns, rows);
      const scale = (n: number) => memory.floats(random(n, 50 + i));
      const angles = random((batch * headDim) / 2, 70 + i);
      // A block without the optional norms, too.
      const norms = {preAttention: scale(hiddenDim), preFfw: scale(hiddenDim)};
      const more = {postAttention: scale(hiddenDim), postFfw: scale(hiddenDim), query: scale(headDim)};
      return {
        ...{...SIZES, ...shared, cachedKeys: cache(), cachedValues: cache(), window: i === 1 ? 2 : null},
        norms: i === 2 ? norms : {...norms, ...more, key: scale(headDim)},
        cos: memory.floats(angles.map(Math.cos)),
        sin: memory.floats(angles.map(Math.sin)),
        query: own(1, hiddenDim, queries),
        key: own(2, hiddenDim, keys),
        value: own(3, hiddenDim, keys),
        output: own(4, queries, hiddenDim),
        gate: own(5, hiddenDim, gateDim),
        up: own(6, hiddenDim, gateDim),
        down: own(7, gateDim, hiddenDim),
      };
    });
    const table = memory.place(4 * words);
    const others = blocks.map((block, i) => ({
      ...{...block, cachedKeys: cache(), cachedValues: cache()},
      ...{x: i === 0 ? shared.x : 0, y: i === BLOCKS - 1 ? shared.y : 0},
    }));
    const bits = (at: number, count: number) => Buffer.from(memory.result(at, count).buffer).toString('hex');
    const caches = (all: readonly FusedBlockArgs[]) =>
      all.flatMap(block => [block.cachedKeys, block.cachedValues].map(at => bits(at, batch * CAPACITY * keys)));
    for (let step = 0; step < 6; step++) {
      const x = random(batch * hiddenDim, 100 + step);
      const buffer = memory.engine.memory.buffer;
      const xNow = new Float32Array(buffer, shared.x, x.length);
      const y = new Float32Array(buffer, shared.y, x.length);
      // The second row has no token at first.
      new Int32Array(buffer, shared.positions, batch).set([step, step - 1]);
      xNow.set(x);
      for (const block of blocks) {
        memory.run(fusedBlock(block));
        xNow.set(y);
      }
      const expected = bits(shared.y, x.length);
      xNow.set(x);
      y.fill(NaN);
      const ints = new Int32Array(buffer, table, words);
      others.forEach((block, i) => setBlockWords(ints, i * FusedBlockWord.end, block));
      memory.run(fusedBlocks({table, count: BLOCKS}));
      expect(bits(shared.y, x.length)).toBe(expected);
      expect(caches(others)).toEqual(caches(blocks));
      expect(memory.result(shared.y, x.length).every(Number.isFinite)).toBe(true);
    }
  });
});
