/**
 * Random damage of everything that is read: a file is read, or refused with an error of this package, in a bounded number
 * of steps, without much more memory than its size, and without access outside its folder.
 *
 * The parsers run in a separate process, in `scripts/fuzz.mjs`, which also ends one that hangs. FUZZ is the number of
 * mutations per parser, FUZZ_SEED and FUZZ_FIRST repeat those of a report.
 */
import {execFile} from 'node:child_process';
import {join} from 'node:path';
import {ValueError} from '../../src/base/errors';
import {ROOT} from '../support/fixtures';
import {Allocations, countedSource, guardedPreset, isOurs, Violation} from './guard';

const {FUZZ: mutations = '', FUZZ_SEED: seed = '1'} = process.env;

interface Report {
  readonly parser: string;
  readonly read: number;
  readonly refused: number;
  readonly faults: string[];
}

test('every file is read, or refused with an error of this package', async () => {
  const options = ['--json', mutations, '', seed];
  const output = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, [join(ROOT, 'scripts/fuzz.mjs'), ...options], (error, stdout, stderr) => {
      // With faults it exits with 1.
      if (error && (error.code !== 1 || stderr)) reject(new Error(`${error.message}\n${stdout}`));
      else resolve(stdout);
    });
  });
  const lines = output.trim().split('\n');
  const reports = lines.map(line => JSON.parse(line) as Report);
  expect(reports.length).toBeGreaterThan(8);
  for (const {parser, read, refused, faults} of reports) {
    expect({parser, faults}).toEqual({parser, faults: []});
    // Damage that is never noticed, or that leaves nothing to read, tests nothing.
    expect({parser, isBoth: read > 0 && refused > 0}).toEqual({parser, isBoth: true});
  }
}, 3_600_000);

test('the guards notice what they are for', async () => {
  const allocations = new Allocations();
  allocations.install();
  try {
    allocations.start(1000);
    expect(() => new Uint8Array(2000)).toThrow(Violation);
    allocations.start(1000);
    expect(() => Array.from({length: 500})).toThrow(Violation);
    allocations.start(Infinity);
  } finally {
    allocations.uninstall();
  }
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
