/**
 * Damages files at random for as long as you like, and ends a parser that hangs.
 *
 *   node scripts/fuzz.mjs [mutations] [parser] [seed]
 *
 * Parsers are those of test/fuzz/parsers.ts. 100,000 mutations take minutes for most of them.
 */
import {spawn} from 'node:child_process';
import {mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

/** Seconds that one mutation may take. */
const PATIENCE = 60;

const [mutations = '100000', parser = '', seed = '1'] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
const progress = join(folder, 'progress');
const pattern = parser && ['-t', `^${parser.replace(/[.]/g, '\\.')}$`];
const jest = spawn(process.execPath, ['node_modules/jest/bin/jest.js', '-i', 'test/fuzz/fuzz.test.ts', ...pattern], {
  stdio: 'inherit',
  env: {...process.env, FUZZ: mutations, FUZZ_SEED: seed, FUZZ_PROGRESS: progress},
});

let last = '';
let since = Date.now();
const watch = setInterval(() => {
  let now = '';
  try {
    now = readFileSync(progress, 'utf8').trim();
  } catch {
    // Not started yet.
  }
  if (now !== last || now === '') {
    last = now;
    since = Date.now();
  } else if (Date.now() - since > PATIENCE * 1000) {
    console.error(`Mutation ${last} of seed ${seed} has taken ${PATIENCE} s: FUZZ_SEED=${seed} FUZZ_FIRST=${last}`);
    process.exitCode = 1;
    jest.kill('SIGKILL');
  }
}, 1000);

jest.on('exit', code => {
  clearInterval(watch);
  rmSync(folder, {recursive: true});
  process.exitCode ||= code ?? 1;
});
