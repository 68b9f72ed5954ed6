/** How the engine chooses between two ways to read weights, while it works. */
import {MAT_MUL, READ_AHEAD} from '../../src/backends/simd/assembly/numbers';
import {INT4, packedBytes} from '../../src/backends/simd/engine/command';
import {ReadingTrial} from '../../src/backends/simd/engine/reading_trial';
import {SimdEngine} from '../../src/backends/simd/engine/simd_engine';
import {matMul} from '../../src/backends/simd/kernels/mat_mul';

const large = {w: 0, x: 0, y: 0, m: 1, type: INT4 as typeof INT4, rows: 262_144, columns: 640};

/** A trial of products that take these times. */
function trial(ahead: number, inOrder: number): ReadingTrial {
  const reading = new ReadingTrial();
  for (let i = 0; !reading.done; i++) {
    if (i > 100) throw new Error('The trial does not end.');
    // The first products are slow, and so is one in three of the others.
    reading.add((reading.ahead ? ahead : inOrder) * (i < 2 || i % 3 === 0 ? 10 : 1));
  }
  return reading;
}

test('the faster way stays', () => {
  expect(trial(5, 4).ahead).toBe(false);
  expect(trial(4, 5).ahead).toBe(true);
});

test('the first products do not count', () => {
  const reading = new ReadingTrial();
  let count = 0;
  for (; !reading.done; count++) reading.add(count < 2 ? 0.1 : reading.ahead ? 5 : 4);
  expect([reading.ahead, count]).toEqual([false, 10]);
});

test('only large products of one row count', () => {
  expect(ReadingTrial.shows(...matMul(large))).toBe(true);
  expect(ReadingTrial.shows(...matMul({...large, m: 2}))).toBe(false);
  expect(ReadingTrial.shows(...matMul({...large, rows: 4096}))).toBe(false);
  expect(ReadingTrial.shows(MAT_MUL + 1, matMul(large)[1])).toBe(false);
});

test.each([1, 2])('an engine with %i threads tries both ways and keeps one, in all its memories', async threads => {
  const engine = await SimdEngine.create({threads, wide: false, maximumPages: 1000});
  try {
    engine.addBank();
    const ways = () => engine.banks.map(({memory}) => new Int32Array(memory.buffer)[READ_AHEAD / 4]);
    expect(ways()).toEqual([1, 1]);

    const [rows, columns] = [2 ** 20, 32];
    const x = engine.staticBytes;
    const y = x + 4 * columns;
    const w = y + 4 * rows;
    engine.memory.grow(Math.ceil((4 * rows + packedBytes(INT4, rows, columns)) / 65536) + 1);
    const product = matMul({type: INT4, w, x, m: 1, y, rows, columns});
    const seen = new Set<number>();
    for (let i = 0; i < 10; i++) {
      engine.run(...product);
      expect(ways()[1]).toBe(ways()[0]);
      seen.add(ways()[0]!);
    }
    expect(seen).toEqual(new Set([0, 1]));
    const chosen = ways();
    for (let i = 0; i < 3; i++) engine.run(...product);
    expect(ways()).toEqual(chosen);
    engine.addBank();
    expect(ways()).toEqual([...chosen, chosen[0]]);
  } finally {
    await engine.dispose();
  }
});

test.each([true, false])('readAhead: %s stays', async readAhead => {
  const engine = await SimdEngine.create({threads: 1, readAhead});
  try {
    expect(new Int32Array(engine.memory.buffer)[READ_AHEAD / 4]).toBe(Number(readAhead));
  } finally {
    await engine.dispose();
  }
});
