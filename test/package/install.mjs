/**
 * Packs the package with npm and installs it in an empty folder. Needs the npm registry.
 *
 * Usage: node install.mjs FOLDER   (installs the existing dist, without building it)
 */
import assert from 'node:assert/strict';
import {spawnSync} from 'node:child_process';
import {writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export function run(command, args, {cwd, ...options} = {}) {
  const env = {...process.env, npm_config_update_notifier: 'false', NODE_OPTIONS: ''};
  return spawnSync(command, args, {cwd, env, encoding: 'utf8', maxBuffer: 2 ** 26, ...options});
}

/** Packs the package into a folder. → npm's report: its name, files and sizes. `flags` are for `npm pack`. */
export function pack(folder, flags = []) {
  const args = ['pack', '--json', '--foreground-scripts=false', '--pack-destination', folder, ...flags];
  const {status, stdout, stderr} = run('npm', args, {cwd: root});
  assert.equal(status, 0, stderr);
  const [packed] = JSON.parse(stdout.slice(stdout.search(/^\[$/m)));
  const hasTypes = packed.files.some(({path}) => path === 'dist/node/index.d.ts');
  assert.ok(hasTypes, 'dist has no types, which `npm ci` does not build. Run `npm run build` first.');
  return packed;
}

/** Packs the package and installs it in a folder. → as {@link pack} */
export function install(folder, flags = []) {
  const packed = pack(folder, flags);
  writeFileSync(join(folder, 'package.json'), JSON.stringify({name: 'consumer', private: true}));
  const quick = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
  const installed = run('npm', ['install', ...quick, `./${packed.filename}`, '@tensorflow/tfjs@4.22.0'], {cwd: folder});
  assert.equal(installed.status, 0, installed.stderr);
  return packed;
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv[2])
  install(process.argv[2], ['--ignore-scripts']);
