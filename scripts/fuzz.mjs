/**
 * Damages files at random for as long as you like, and ends a parser that hangs.
 *
 *   node scripts/fuzz.mjs [--json] [mutations] [parser] [seed]
 *
 * Parsers are those of test/fuzz/parsers.ts. 100,000 mutations take minutes for each of them. An empty number means as
 * many as in the tests.
 */
import {spawn} from 'node:child_process';
import {mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {buildSync} from 'esbuild';

/** Seconds that one mutation may take. */
const PATIENCE = 60;

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const {
  values: {json},
  positionals: [mutations = '100000', parser = '', seed = '1'],
} = parseArgs({options: {json: {type: 'boolean'}}, allowPositionals: true});
const folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
const [program, progress] = [join(folder, 'fuzz.cjs'), join(folder, 'progress')];
buildSync({
  entryPoints: [join(root, 'test/fuzz/main.ts')],
  outfile: program,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  // Fixtures are found from the folder of one module.
  define: {__dirname: JSON.stringify(join(root, 'test/support'))},
  external: ['sharp', 'webgpu', '@tensorflow/tfjs-backend-webgpu'],
  logLevel: 'error',
});
const options = [mutations, parser, seed, progress, ...(json ? ['json'] : [])];
const run = spawn(process.execPath, ['--enable-source-maps', program, ...options], {stdio: 'inherit'});

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
    const [, name, number] = /^(.*) (\d+)$/.exec(last);
    console.error(`Mutation ${number} of ${name} has taken ${PATIENCE} s. Again:`);
    console.error(`  FUZZ_FIRST=${number} node scripts/fuzz.mjs ${Number(number) + 1} "${name}" ${seed}`);
    process.exitCode = 1;
    run.kill('SIGKILL');
  }
}, 1000);

run.on('exit', code => {
  clearInterval(watch);
  rmSync(folder, {recursive: true});
  process.exitCode ||= code ?? 1;
});
