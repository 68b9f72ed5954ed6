/**
 * tfjs tensors in WebAssembly memory: placement, aliases, packed weights in every layout, kernels against references.
 */
import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {backendNames, describeBackends, files, Gemma3CausalLM, useBackend} from '../../src';
import {Arena} from '../../src/backends/simd/memory/heap';
import {type SimdBackend} from '../../src/backends/simd/memory/simd_backend';
import {gatherP8Op, matMulP8Op, packings, unpackP8Op} from '../../src/backends/simd/packing/packing';
import {bfloat16ToFloat32, float32ToBfloat16} from '../../src/base/half';
import {denseEinsum, planEinsum} from '../../src/ops/einsum';
import {embeddingOp} from '../../src/ops/embedding';
import {matMulOp} from '../../src/ops/mat_mul';
import {runOp} from '../../src/ops/op';
import {type KernelLayout, PackedWeight} from '../../src/weights/packed_weight';
import {PIECE} from '../../src/weights/value_stream';
import {Weight} from '../../src/weights/weight';
import {FakeStream} from '../support/fake_stream';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

let backend: SimdBackend;
beforeAll(async () => {
  await useBackend('simd', {threads: 2});
  backend = tf.backend() as unknown as SimdBackend;
});

/** Address of a tensor after one of our kernels has used it. */
function meet(x: tf.Tensor): number {
  tf.argMax(x, -1).dispose();
  return backend.placeOf(x)!.offset;
}

describe('the arena', () => {
  test('returns ranges that never overlap, and reuses all released ones', () => {
    const action = fc.record({bytes: fc.integer({min: 1, max: 3000}), release: fc.boolean(), which: fc.nat()});
    fc.assert(
      fc.property(fc.array(action, {maxLength: 60}), actions => {
        const arena = new Arena();
        arena.add(64, 64 + 64 * 1000);
        const live: {offset: number; bytes: number}[] = [];
        for (const {bytes, release, which} of actions) {
          if (release && live.length) {
            const [gone] = live.splice(which % live.length, 1);
            arena.release(gone!.offset, gone!.bytes);
          } else {
            const offset = arena.allocate(bytes);
            if (offset === null) continue;
            expect(offset % 64).toBe(0);
            for (const other of live) {
              expect(offset >= other.offset + other.bytes || offset + bytes <= other.offset).toBe(true);
            }
            live.push({offset, bytes});
          }
        }
        for (const {offset, bytes} of live) arena.release(offset, bytes);
        expect(arena.used).toBe(0);
        expect(arena.allocate(64 * 1000)).toBe(64);
      }),
    );
  });

  test('takes the shortest range that is long enough', () => {
    const arena = new Arena();
    arena.add(0, 3000 * 64);
    arena.release(arena.allocate(3000 * 64)!, 3000 * 64);
    const blocks = [10, 990, 2, 998, 4, 996].map(lines => [arena.allocate(64 * lines)!, 64 * lines] as const);
    for (const i of [0, 2, 4]) arena.release(...blocks[i]!);
    expect([arena.allocate(192), arena.allocate(128), arena.allocate(128)]).toEqual([2000 * 64, 1000 * 64, 0]);
  });

  test('prefers memory that was in use before to a shorter range that was not', () => {
    const arena = new Arena();
    arena.add(0, 64 * 100);
    const [first, second] = [arena.allocate(64 * 50)!, arena.allocate(64 * 40)!];
    arena.release(first, 64 * 50);
    expect(arena.allocate(64 * 10)).toBe(0);
    arena.release(second, 64 * 40);
    // 90 lines from the eleventh on are free, of which the last ten are new.
    expect(arena.allocate(64 * 90)).toBe(64 * 10);
  });

  test('detects a range that is released twice', () => {
    const arena = new Arena();
    arena.add(0, 640);
    const offset = arena.allocate(64)!;
    arena.release(offset, 64);
    expect(() => arena.release(offset, 64)).toThrow(/released twice/);
  });
});

describe('tensors in memory', () => {
  test('keep their values when they move and when memory grows', () => {
    tf.tidy(() => {
      const x = normal([7, 5], 1);
      const before = Array.from(x.dataSync());
      expect(backend.placeOf(x)).toBeUndefined();
      const at = meet(x);
      expect(at % 64).toBe(0);
      expect(meet(x)).toBe(at);
      expect(Array.from(x.dataSync())).toEqual(before);
      const large = backend.empty([40 * 2 ** 20]);
      expect(Array.from(x.dataSync())).toEqual(before);
      backend.disposeData(large.dataId);
      expect(Array.from(tf.add(x, 1).dataSync())).toEqual(before.map(value => Math.fround(value + 1)));
    });
  });

  test('are copied when a tfjs kernel returns a part of its input', () => {
    const x = tf.tensor1d([1, 2, 3, 4, 5, 6, 7, 8]);
    meet(x);
    const [part, pieces, read] = [tf.slice(x, 2, 3), tf.unstack(tf.reshape(x, [2, 4])), x.dataSync()];
    x.dispose();
    // The next tensor gets the same place.
    const other = backend.empty([8]);
    (backend.data.get(other.dataId).values as Float32Array).fill(99);
    expect(Array.from(part.dataSync())).toEqual([3, 4, 5]);
    expect(pieces.map(piece => Array.from(piece.dataSync()))).toEqual([
      [1, 2, 3, 4],
      [5, 6, 7, 8],
    ]);
    expect(Array.from(read)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    tf.dispose([part, pieces]);
    backend.disposeData(other.dataId);
  });

  test('release their memory', () => {
    const used = () => (tf.memory() as unknown as {heapBytes: number}).heapBytes;
    const before = used();
    for (let i = 0; i < 20; i++) {
      tf.tidy(() => {
        const [x, kernel] = [normal([3, 64], i), normal([1, 64, 32], i)];
        runOp(matMulOp, {x, kernel}, {});
      });
    }
    expect(used()).toBe(before);
  });
});

const LAYOUTS: [number[], KernelLayout][] = [
  [[70, 40], {out: [0], in: [1]}],
  [[40, 70], {out: [1], in: [0]}],
  [[3, 33, 20], {out: [0, 2], in: [1]}],
  [[3, 20, 33], {out: [2], in: [0, 1]}],
  [[33, 3, 20], {out: [0], in: [1, 2]}],
  [[5, 6, 7], {out: [2, 0], in: [1]}],
  [[5, 6, 7], {out: [1], in: [2, 0]}],
  [[9], {out: [0], in: []}],
  [[1, 1], {out: [0], in: [1]}],
];

test.each(LAYOUTS)('stores a weight of %j in layout %j exactly, whether filled or written', async (shape, layout) => {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({length: size}, (_, i) => Math.sin(i + 1) * 100);
  const halves = new Uint16Array(size);
  float32ToBfloat16(values, halves);
  const rounded = new Float32Array(size);
  bfloat16ToFloat32(halves, rounded);
  const before = tf.memory().numTensors;
  const filled = new PackedWeight(shape, layout, 'filled', tf.initializers.zeros());
  expect(filled.packing).toBe(packings.bfloat16);
  await filled.fill(new FakeStream(shape, values));
  const written = new PackedWeight(shape, layout, 'written', tf.initializers.zeros());
  tf.tidy(() => {
    written.write(tf.tensor(values, shape));
    for (const weight of [filled, written]) {
      expect(Array.from(weight.read().dataSync())).toEqual(Array.from(rounded));
    }
    expect(Array.from(filled.bits.dataSync())).toEqual(Array.from(written.bits.dataSync()));
  });
  filled.dispose();
  written.dispose();
  expect(tf.memory().numTensors).toBe(before);
});

test('packs in pieces, by rows and by columns', async () => {
  for (const [shape, layout] of [
    [[PIECE / 1024 + 7, 1500], {out: [0], in: [1]}],
    [[PIECE / 1024 + 7, 1500], {out: [1], in: [0]}],
  ] as [number[], KernelLayout][]) {
    const values = Float32Array.from({length: shape[0]! * shape[1]!}, (_, i) => (i * 7919) % 256);
    const stream = new FakeStream(shape, values);
    const weight = new PackedWeight(shape, layout, 'large', tf.initializers.zeros());
    await weight.fill(stream);
    expect(stream.reads.length).toBeGreaterThan(1);
    const read = weight.read();
    expect(Buffer.compare(Buffer.from((read.dataSync() as Float32Array).buffer), Buffer.from(values.buffer))).toBe(0);
    read.dispose();
    weight.dispose();
  }
});

test('fills float32 weights in place', async () => {
  const weight = new Weight([5, 3], 'plain', tf.initializers.zeros());
  const values = Float32Array.from({length: 15}, (_, i) => i / 3);
  await weight.fill(new FakeStream([5, 3], values));
  expect(Array.from(weight.read().dataSync())).toEqual(Array.from(values));
  weight.dispose();
});

const sizes = fc.record({
  m: fc.integer({min: 1, max: 13}),
  rows: fc.integer({min: 1, max: 40}),
  columns: fc.integer({min: 1, max: 70}),
  seed: fc.nat(1000),
});

test.each(['bfloat16', 'int8', 'int4'] as const)('multiplies weights stored as %s like the reference', format => {
  fc.assert(
    fc.property(sizes, ({m, rows, columns, seed}) => {
      tf.tidy(() => {
        const init = tf.initializers.zeros();
        const weight = new PackedWeight([rows, columns], {out: [0], in: [1]}, 'w', init, true, format);
        const values = normal([rows, columns], seed);
        weight.write(values);
        // Stored values differ from the given ones by at most half a step of their block.
        expect(weight.read()).toBeAllClose(values, {bfloat16: 0.01, int8: 0.02, int4: 0.3}[format]);
        const {bits} = weight;
        const x = normal([m, columns], seed + 1);
        const size = {rows, columns, format};
        // Integer products round x to fractions of its largest value. Allows six standard deviations of the total
        // error.
        const parts = {bfloat16: Infinity, int8: 2031, int4: 127}[format];
        const largest = tf.max(tf.abs(x)).dataSync()[0]!;
        const norm = tf.max(tf.norm(weight.read(), 2, 1)).dataSync()[0]!;
        const rounding = ((6 / Math.sqrt(12)) * largest * norm) / parts;
        expectSameGradients(
          x => runOp(matMulP8Op, {x, bits}, size),
          x => matMulP8Op.reference({x, bits}, size),
          [x],
          1e-5 + rounding,
        );
        expect(runOp(unpackP8Op, {bits}, size)).toBeAllClose(unpackP8Op.reference({bits}, size), 1e-6);
        const ids = tf.tensor1d([0, rows - 1, 0], 'int32');
        const of = {columns, format};
        expect(runOp(gatherP8Op, {bits, ids}, of)).toBeAllClose(gatherP8Op.reference({bits, ids}, of), 1e-6);
        weight.dispose();
      });
    }),
    {numRuns: 15},
  );
});

test('looks up rows like the reference, forward and backward', () => {
  tf.tidy(() => {
    const [table, ids] = [normal([9, 5], 1), tf.tensor1d([3, 0, 8, 3], 'int32')];
    expectSameGradients(
      table => runOp(embeddingOp, {table, ids}, {}),
      table => embeddingOp.reference({table, ids}, {}),
      [table],
    );
  });
});

test('casts booleans to words, which our kernels read', () => {
  tf.tidy(() => {
    const flags = tf.tensor1d([true, false, true]);
    expect(tf.cast(flags, 'int32').dataSync()).toEqual(Int32Array.of(1, 0, 1));
    expect(tf.cast(flags, 'float32').dataSync()).toEqual(Float32Array.of(1, 0, 1));
  });
});

test('multiplies float32 kernels like the reference, forward and backward', () => {
  fc.assert(
    fc.property(sizes, ({m, rows, columns, seed}) => {
      tf.tidy(() => {
        const [x, kernel] = [normal([m, columns], seed), normal([2, columns, rows], seed + 2)];
        expectSameGradients(
          (x, kernel) => runOp(matMulOp, {x, kernel}, {}),
          (x, kernel) => matMulOp.reference({x, kernel}, {}),
          [x, kernel],
        );
      });
    }),
    {numRuns: 15},
  );
});

test('packed weights keep working when the backend changes', async () => {
  const weight = new PackedWeight([6, 8, 5], {out: [0, 2], in: [1]}, 'moved', tf.initializers.zeros());
  tf.tidy(() => {
    weight.write(normal([6, 8, 5], 3));
  });
  const plan = planEinsum('btd,ndh->btnh', 3);
  const apply = () => tf.tidy(() => Array.from(denseEinsum(tf.ones([1, 2, 8]), weight, plan).dataSync()));
  const here = apply();
  await useBackend('cpu');
  const there = apply();
  await useBackend('simd');
  const back = apply();
  expect(there).toBeAllClose(here, {atol: 5e-5});
  expect(back).toEqual(here);
  weight.dispose();
});

test('other backends can use int8 weights, but not pack them', async () => {
  const make = () => new PackedWeight([8, 32], {out: [0], in: [1]}, 'w', tf.initializers.zeros(), true, 'int8');
  const weight = make();
  tf.tidy(() => {
    weight.write(normal([8, 32], 3));
  });
  const values = tf.tidy(() => weight.read().dataSync());
  await useBackend('cpu');
  const other = make();
  const zeros = tf.zeros([8, 32]);
  expect(() => other.write(zeros)).toThrow(/"cpu" cannot pack weights as int8.*"simd"/);
  tf.tidy(() => expect(weight.read()).toBeAllClose(values, {atol: 5e-6}));
  zeros.dispose();
  await useBackend('simd');
  weight.dispose();
  other.dispose();
});

test.each(['int8', 'int4'] as const)('a model stored as %s says at once that it needs this backend', async dtype => {
  const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype});
  const options = {maxLength: 16, stopTokenIds: null};
  const text = await lm.generate('Once upon', options);
  const before = tf.memory().numTensors;
  const message = new RegExp(
    `Expected the backend "simd", for which these weights are packed as ${dtype}. Received: the backend "cpu"`,
  );
  await tf.setBackend('cpu');
  try {
    await expect(lm.generate('Once upon', options)).rejects.toThrow(message);
    await expect(lm.stream('Once upon', options).next()).rejects.toThrow(message);
    await expect(lm.startChat().send('Once upon')).rejects.toThrow(message);
    expect(() => tf.tidy(() => lm.score({tokenIds: tf.tensor2d([[2]], [1, 1], 'int32')}))).toThrow(message);
    await expect(lm.evaluate(['Once upon a time'])).rejects.toThrow(message);
    await expect(lm.saveToPreset(new files.MemoryPreset(), {dtype: 'bfloat16'})).rejects.toThrow(message);
    expect(() => lm.getWeights()).toThrow(message);
    await expect(lm.quantize(dtype)).rejects.toThrow('is already quantized');
    lm.backbone.enableLora(2);
    await expect(lm.fit(['Once upon a time'])).rejects.toThrow(message);
  } finally {
    await useBackend('simd');
  }
  expect(await lm.generate('Once upon', options)).toBe(text);
  lm.dispose();
  expect(tf.memory().numTensors).toBeLessThan(before);
});

test('is recreated for new options, without a warning', async () => {
  const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
  await useBackend('simd', {threads: 1});
  const alone = tf.backend() as unknown as SimdBackend;
  expect(alone).not.toBe(backend);
  expect(alone.engine.threads).toBe(1);
  await useBackend('simd', {threads: 2, relaxed: false});
  backend = tf.backend() as unknown as SimdBackend;
  expect(backend.engine.level).toBe('plain');
  await useBackend('simd');
  expect(tf.backend()).toBe(backend);
  expect(tf.tidy(() => tf.matMul(tf.ones([2, 3]), tf.ones([3, 2])).dataSync()[0])).toBe(3);
  expect(warn).not.toHaveBeenCalled();
  warn.mockRestore();
});

test('refuses unknown names and options', async () => {
  await expect(useBackend('simd', {thread: 2} as never)).rejects.toThrow(
    /no argument "thread". Expected: threads, relaxed, wide/,
  );
  await expect(useBackend('gpu' as never)).rejects.toThrow(/"auto", "webgpu", "cuda", "simd", "cpu". Received: "gpu"/);
});

test('backendNames lists "auto", then the described backends in their order', async () => {
  expect(backendNames).toEqual(['auto', ...(await describeBackends()).map(({name}) => name)]);
});

test('describeBackends describes all backends', async () => {
  const [webgpu, cuda, simd, cpu] = await describeBackends();
  expect(webgpu).toMatchObject({name: 'webgpu'});
  expect(cuda).toMatchObject({name: 'cuda'});
  expect(simd).toMatchObject({name: 'simd', available: true, details: expect.stringMatching(/WebAssembly.*thread/)});
  expect(cpu).toMatchObject({name: 'cpu', available: true});
});

describe('without WebAssembly SIMD', () => {
  beforeEach(() => {
    jest.spyOn(WebAssembly, 'validate').mockReturnValue(false);
  });
  afterEach(async () => {
    jest.restoreAllMocks();
    await useBackend('simd', {threads: 2});
  });

  test('it is refused with the reason, and described', async () => {
    await expect(useBackend('simd', {threads: 2})).rejects.toThrow(
      /^Backend "simd" cannot be used here. simd: This machine or JavaScript engine has no WebAssembly SIMD/,
    );
    const simd = (await describeBackends()).find(({name}) => name === 'simd');
    expect(simd).toEqual({name: 'simd', available: false, details: expect.stringMatching(/no WebAssembly SIMD/)});
  });

  test('"auto" selects "cpu", and warns once', async () => {
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
    expect([await useBackend('auto'), await useBackend()]).toEqual(['cpu', 'cpu']);
    expect(warn.mock.calls).toEqual([[expect.stringMatching(/^The backend is "cpu".*simd: .*no WebAssembly SIMD/)]]);
    await expect(useBackend('auto', {threads: 2})).rejects.toThrow(/simd: .* cpu: it has no option threads/);
    expect(tf.getBackend()).toBe('cpu');
  });

  test('"cpu" refuses to pack integers, with the reason', async () => {
    await useBackend('cpu');
    const weight = new PackedWeight([8, 32], {out: [0], in: [1]}, 'w', tf.initializers.zeros(), true, 'int8');
    const zeros = tf.zeros([8, 32]);
    expect(() => weight.write(zeros)).toThrow(/"cpu" cannot pack weights as int8.*no WebAssembly SIMD/);
    tf.dispose(zeros);
    weight.dispose();
  });
});
