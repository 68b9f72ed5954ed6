/**
 * Builds `dist`: kernels, code, types, and presets as modules.
 *
 *     node scripts/build.mjs [--prepare]
 *
 * The new `dist` replaces the old one only when it is complete, so a program that starts meanwhile finds all files, and
 * two concurrent builds do not mix.
 *
 * `--prepare` is for npm's `prepare`, which runs after `npm ci` and `npm install` in a clone, before `npm pack` and
 * `npm publish`, and when the package is installed from git. All of them need types, except `npm ci` in a fresh clone:
 * types take half of the time, and neither the command nor `npm test` reads them. An older `dist` with types gets new
 * ones.
 */
import {spawnSync} from 'node:child_process';
import {existsSync, readdirSync, renameSync, rmSync} from 'node:fs';
import {createRequire} from 'node:module';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');
const unfinished = `dist.${process.pid}`;

const hasTypes = existsSync(join(dist, 'node', 'index.d.ts'));
const withTypes = !process.argv.includes('--prepare') || process.env.npm_command !== 'ci' || hasTypes;

/** Runs a program of Node. Ends this one if it fails. */
function run(script, ...args) {
  const env = {...process.env, BUILD_FOLDER: unfinished};
  const {status, signal} = spawnSync(process.execPath, [script, ...args], {cwd: root, env, stdio: 'inherit'});
  if (status === 0) return;
  rmSync(join(root, unfinished), {recursive: true, force: true});
  if (signal) process.kill(process.pid, signal);
  process.exit(status ?? 1);
}

function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Removes the remains of killed builds. */
function removeLeftovers() {
  for (const name of readdirSync(root)) {
    const pid = /^dist\.(\d+)(\.old)?$/.exec(name)?.[1];
    if (pid && !isRunning(Number(pid))) rmSync(join(root, name), {recursive: true, force: true});
  }
}

/** Replaces `dist`. Another build may do the same: then the later one stays. */
function replace() {
  const old = join(root, `${unfinished}.old`);
  for (let attempts = 10; ; attempts--) {
    if (existsSync(dist)) {
      try {
        renameSync(dist, old);
      } catch (error) {
        if (error.code !== 'ENOENT') throw error;
      }
    }
    try {
      renameSync(join(root, unfinished), dist);
      break;
    } catch (error) {
      if (attempts === 0 || !['ENOTEMPTY', 'EEXIST'].includes(error.code)) throw error;
    } finally {
      rmSync(old, {recursive: true, force: true});
    }
  }
}

// Signals reach the program that runs as well: it ends, and `run` cleans up.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => {});

removeLeftovers();
run('scripts/build_wasm.mjs');
const tsup = join(dirname(createRequire(import.meta.url).resolve('tsup/package.json')), 'dist', 'cli-default.js');
run(tsup, ...(withTypes ? [] : ['--no-dts']));
run('scripts/build_presets.mjs');
replace();
if (!withTypes) console.log('dist has no types yet: `npm run build` adds them, and so does `npm pack`.');
