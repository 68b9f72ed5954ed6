/**
 * Random damage of everything that is read: a file is read, or refused with an error of this package, in a bounded number
 * of steps, without much more memory than its size, and without a look outside its folder.
 *
 * `node scripts/fuzz.mjs` runs more mutations, faster, and notices those that hang. FUZZ is the number of mutations per
 * parser, FUZZ_SEED and FUZZ_FIRST repeat those of a report.
 */
import {ValueError} from '../../src/base/errors';
import {Allocations, countedSource, guardedPreset, isOurs, Violation} from './guard';
import {parsers} from './parsers';
import {fuzz} from './run';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
const BUDGET = process.env.FUZZ === undefined ? undefined : Number(process.env.FUZZ);
const FIRST = Number(process.env.FUZZ_FIRST ?? 0);

const allocations = new Allocations();
beforeAll(() => {
  allocations.install();
  jest.spyOn(console, 'warn').mockImplementation(() => {});
});
afterAll(() => {
  allocations.uninstall();
  jest.restoreAllMocks();
});

test.each(parsers.map(parser => [parser.name, parser] as const))('%s', async (_, parser) => {
  const end = BUDGET ?? parser.budget ?? 1000;
  const {read, refused, faults} = await fuzz(parser, {seed: SEED, first: FIRST, end, allocations});
  expect(faults).toEqual([]);
  expect(refused).toBeGreaterThan(0);
  expect(read).toBeGreaterThan(0);
});

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
