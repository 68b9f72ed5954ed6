/**
 * Random damage of everything that is read: a file is read, or refused with an error of this package, in a bounded number
 * of steps, without much more memory than its size, and without a look outside its folder.
 *
 * `node scripts/fuzz.mjs` runs more mutations, and notices those that hang. It sets FUZZ (mutations per parser), FUZZ_SEED
 * and FUZZ_PROGRESS (a file that gets the number of each mutation).
 */
import {closeSync, openSync, writeSync} from 'node:fs';
import {ValueError} from '../../src/base/errors';
import {Allocations, countedSource, guardedPreset, isOurs, Violation} from './guard';
import {randomNumbers} from './mutations';
import {parsers} from './parsers';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
const BUDGET = process.env.FUZZ === undefined ? undefined : Number(process.env.FUZZ);
const FIRST = Number(process.env.FUZZ_FIRST ?? 0);
const MOST_REPORTED = 5;

const allocations = new Allocations();
let progress: number | undefined;
beforeAll(() => {
  allocations.install();
  if (process.env.FUZZ_PROGRESS) progress = openSync(process.env.FUZZ_PROGRESS, 'w');
  jest.spyOn(console, 'warn').mockImplementation(() => {});
});
afterAll(() => {
  allocations.uninstall();
  if (progress !== undefined) closeSync(progress);
  jest.restoreAllMocks();
});

test.each(parsers.map(parser => [parser.name, parser] as const))(
  '%s',
  async (_, {seeds, damage, read, limit = size => 24 * size + 2 ** 22, budget = 1000}) => {
    const outcomes = {read: 0, refused: 0};
    const faults = new Map<string, string>();
    for (let i = FIRST; i < (BUDGET ?? budget); i++) {
      const random = randomNumbers(SEED * 1_000_003 + i);
      const seed = seeds[random(seeds.length)]!;
      const bytes = damage(seed.bytes, random);
      const whole = bytes.length + [...(seed.folder?.values() ?? [])].reduce((sum, {length}) => sum + length, 0);
      if (progress !== undefined) writeSync(progress, `${i}\n`.padEnd(16), 0);
      allocations.start(limit(whole));
      try {
        await read(seed, bytes);
        outcomes.read++;
      } catch (error) {
        outcomes.refused++;
        if (isOurs(error)) continue;
        const {stack = String(error)} = error as Error;
        const [message, ...lines] = stack.split('\n');
        const place = lines.find(line => /\/(src|converters)\//.test(line)) ?? lines[0] ?? '';
        const kind = `${message!.replace(/\d+/g, 'N').slice(0, 200)}${place}`;
        if (!faults.has(kind)) faults.set(kind, `FUZZ_SEED=${SEED} FUZZ_FIRST=${i}, of ${seed.name}: ${stack}`);
        if (faults.size >= MOST_REPORTED) break;
      } finally {
        allocations.start(Infinity);
      }
    }
    expect([...faults.values()]).toEqual([]);
    expect(outcomes.refused).toBeGreaterThan(0);
    expect(outcomes.read).toBeGreaterThan(0);
  },
  24 * 3600 * 1000,
);

test('the guards notice what they are for', async () => {
  allocations.start(1000);
  expect(() => new Uint8Array(2000)).toThrow(Violation);
  allocations.start(1000);
  expect(() => Array.from({length: 500})).toThrow(Violation);
  allocations.start(Infinity);
  await expect(guardedPreset(new Map()).has('../x')).rejects.toThrow(Violation);
  const source = countedSource('x', new Uint8Array(8));
  await expect(async () => {
    for (;;) await source.readInto(0, new Uint8Array(8));
  }).rejects.toThrow(Violation);
  expect(
    [new TypeError('expected, received'), new Violation('expected received'), new Error('no'), 'x'].some(isOurs),
  ).toBe(false);
  expect([new ValueError('x'), new Error('Expected a. Received: b.')].every(isOurs)).toBe(true);
});
