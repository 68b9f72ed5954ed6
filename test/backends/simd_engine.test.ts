/** The life cycle of an engine: choosing a module; threads that wait, sleep, fail and end. */
import {execFile} from 'node:child_process';
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {promisify} from 'node:util';
import {build} from 'esbuild';
import {PATIENCE} from '../../src/backends/simd/assembly/numbers';
import {FLOAT32, floatBits, nothing} from '../../src/backends/simd/engine/command';
import {SimdEngine, type SimdEngineOptions} from '../../src/backends/simd/engine/simd_engine';
import {wideIsFaster} from '../../src/backends/simd/engine/wide';
import {gather, type GatherArgs} from '../../src/backends/simd/kernels/embedding';
import {type Thread} from '../../src/platform/contract';

const engines: SimdEngine[] = [];
async function create(options: SimdEngineOptions): Promise<SimdEngine> {
  const engine = await SimdEngine.create(options);
  engines.push(engine);
  return engine;
}
afterEach(async () => {
  await Promise.all(engines.splice(0).map(engine => engine.dispose()));
});

const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));
const workersOf = (engine: SimdEngine) => (engine as unknown as {workers: Thread[]}).workers;

/** Copies 64 rows on all threads, and returns whether they arrived. */
function works(engine: SimdEngine, bank = 0): boolean {
  const at = engine.staticBytes;
  const {memory} = engine.banks[bank]!;
  if (memory.buffer.byteLength < at + 65536) memory.grow(1);
  const ids = new Int32Array(memory.buffer, at, 64).map((_, i) => 63 - i);
  new Int32Array(memory.buffer, at, 64).set(ids);
  new Float32Array(memory.buffer, at + 256, 64).set(ids);
  const target = new Float32Array(memory.buffer, at + 512, 64).fill(0);
  engine.run(...gather({table: at + 256, type: FLOAT32, columns: 1, ids: at, count: 64, target: at + 512}), bank);
  return target.every((value, i) => value === i);
}

test('uses relaxed SIMD where it is available, unless it is turned off', async () => {
  expect((await create({threads: 1})).level).toBe('relaxed');
  const plain = await create({threads: 2, relaxed: false});
  expect(plain.level).toBe('plain');
  expect(works(plain)).toBe(true);
});

test('runs on wide tiles on demand, and measures whether they are faster', async () => {
  const wide = await create({threads: 1, wide: true});
  expect([wide.wide, works(wide)]).toEqual([true, true]);
  expect((await create({threads: 1, wide: false})).wide).toBe(false);
  const faster = await wideIsFaster(wide.banks[0]!.kernels);
  expect(typeof faster).toBe('boolean');
  expect(works(wide)).toBe(true);
});

test('runs on one thread if the given memory is not shared', async () => {
  const engine = await create({memory: new WebAssembly.Memory({initial: 1, maximum: 100}), threads: 4});
  expect([engine.shared, engine.threads]).toEqual([false, 1]);
  expect(works(engine)).toBe(true);
});

test('works on a given memory, after the bytes of the engine', async () => {
  const memory = new WebAssembly.Memory({initial: 1, maximum: 200, shared: true});
  const engine = await create({memory, threads: 2});
  expect(engine.memory).toBe(memory);
  expect(memory.buffer.byteLength).toBeGreaterThanOrEqual(engine.staticBytes);
  expect(works(engine)).toBe(true);
});

test('several engines work at once', async () => {
  const both = await Promise.all([create({threads: 2}), create({threads: 3, relaxed: false})]);
  for (let i = 0; i < 100; i++) expect(both.map(engine => works(engine))).toEqual([true, true]);
});

test('wakes sleeping threads, also those that have stopped polling because it was in vain', async () => {
  const engine = await create({threads: 3});
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 5; i++) {
      await pause(20);
      expect(works(engine)).toBe(true);
    }
    for (let i = 0; i < 100; i++) engine.run(...nothing());
    expect(works(engine)).toBe(true);
  }
});

test('runs many commands in a row with more threads than cores', async () => {
  const engine = await create({threads: 6});
  for (let i = 0; i < 300; i++) engine.run(...nothing());
  expect(works(engine)).toBe(true);
});

test('refuses too many arguments', async () => {
  const engine = await create({threads: 1});
  expect(() => engine.run(0, new Array(257).fill(0))).toThrow('Expected at most 256 arguments');
});

test('runs nothing after it is disposed', async () => {
  const engine = await create({threads: 2});
  const {ended} = workersOf(engine)[0]!;
  await engine.dispose();
  await ended;
  await engine.dispose();
  expect(() => engine.run(...nothing())).toThrow('disposed');
});

test('an error in a kernel makes this run and all later ones throw', async () => {
  const engine = await create({threads: 2});
  const beyond: GatherArgs = {
    table: 0xfffffff0,
    type: FLOAT32,
    columns: 64,
    ids: engine.staticBytes,
    count: 2,
    target: 0xffff0000,
  };
  expect(() => engine.run(...gather(beyond))).toThrow(/SIMD/);
  expect(() => engine.run(...nothing())).toThrow('died');
});

test('throws if a thread has died', async () => {
  const engine = await create({threads: 2});
  await workersOf(engine)[0]!.stop();
  expect(() => engine.run(...nothing())).toThrow('died');
});

test('does not wait forever for a thread whose death was not reported', async () => {
  const engine = await create({threads: 2});
  new Int32Array(engine.memory.buffer)[PATIENCE / 4] = 20;
  // No event arrives while this thread is busy.
  const stopped = workersOf(engine)[0]!.kill();
  for (const end = performance.now() + 200; performance.now() < end;);
  expect(() => engine.run(...nothing())).toThrow('died');
  await stopped;
});

describe('several memories', () => {
  test.each([
    {threads: 1, shared: false},
    {threads: 1, shared: true},
    {threads: 2, shared: true},
    {threads: 5, shared: true},
  ])('are used in turn, with $threads threads, shared: $shared', async ({threads, shared}) => {
    const memory = new WebAssembly.Memory({initial: 1, maximum: 1000, shared});
    const engine = await create({threads, memory, maximumPages: 1000});
    for (let bank = 1; bank < 4; bank++) {
      expect(engine.addBank()).toBe(engine.banks[bank]);
      expect(works(engine, bank)).toBe(true);
    }
    for (let i = 0; i < 200; i++) expect(works(engine, (i * 7) % 4)).toBe(true);
    // Twice without a pause, and right after a sleep.
    await pause(20);
    engine.addBank();
    engine.addBank();
    expect([5, 4, 0].map(bank => works(engine, bank))).toEqual([true, true, true]);
    await pause(20);
    expect(works(engine, 4)).toBe(true);
  });

  test('are limited by maximumBanks', async () => {
    const engine = await create({threads: 2, maximumBanks: 2});
    expect(engine.addBank()).toBeDefined();
    expect(engine.addBank()).toBeUndefined();
    expect(works(engine, 1)).toBe(true);
    const small = await create({threads: 1, maximumPages: 0xffff, relaxed: false});
    jest.spyOn(WebAssembly, 'Memory').mockImplementation(() => {
      throw new RangeError('could not allocate memory');
    });
    expect(small.addBank()).toBeUndefined();
    jest.restoreAllMocks();
    expect(works(small)).toBe(true);
  });

  test('end with the engine', async () => {
    const engine = await create({threads: 3});
    engine.addBank();
    const ended = workersOf(engine).map(worker => worker.ended);
    await engine.dispose();
    await Promise.all(ended);
    expect(() => engine.run(...nothing(), 1)).toThrow('disposed');
    expect(() => engine.addBank()).toThrow('disposed');
  });

  test('an error in one makes runs in all of them throw', async () => {
    const engine = await create({threads: 2});
    engine.addBank();
    const table = {table: 0xfffffff0, type: FLOAT32, columns: 64, ids: engine.staticBytes, target: 0xffff0000} as const;
    expect(() => engine.run(...gather({...table, count: 2}), 1)).toThrow(/SIMD/);
    expect(() => engine.run(...nothing())).toThrow('died');
    expect(() => engine.run(...nothing(), 1)).toThrow('died');
    expect(() => engine.addBank()).toThrow('died');
  });

  test.each([0, 1])('a thread whose death was not reported is detected in bank %i', async bank => {
    const engine = await create({threads: 2});
    engine.addBank();
    expect(works(engine, 1)).toBe(true);
    for (const {control} of engine.banks) control[PATIENCE / 4] = 20;
    const stopped = workersOf(engine)[0]!.kill();
    for (const end = performance.now() + 200; performance.now() < end;);
    expect(() => engine.run(...nothing(), bank)).toThrow('died');
    await stopped;
    expect(() => engine.run(...nothing(), 1 - bank)).toThrow('died');
  });
});

test('floatBits returns the bits of a float32', () => {
  expect([floatBits(1), floatBits(-2)]).toEqual([0x3f800000, 0xc0000000 | 0]);
});

test('an engine does not keep the process alive, which ends without output', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'simd-'));
  try {
    const contents = `import {SimdEngine} from './src/backends/simd/engine/simd_engine';
      SimdEngine.create({threads: 3}).then(engine => { engine.run(0, []); console.log(engine.level); });`;
    const {outputFiles} = await build({
      stdin: {contents, resolveDir: process.cwd()},
      bundle: true,
      write: false,
      platform: 'node',
      logLevel: 'error',
      // CommonJS has no import.meta, and this script does not use it.
      define: {'import.meta.url': '"file:///"'},
    });
    const script = join(folder, 'script.cjs');
    writeFileSync(script, outputFiles![0]!.contents);
    const {stdout, stderr} = await promisify(execFile)(process.execPath, [script], {timeout: 20_000});
    expect([stdout, stderr]).toEqual(['relaxed\n', '']);
  } finally {
    rmSync(folder, {recursive: true});
  }
});
