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

/** npm's report of the packed package: its files and sizes. `flags` are for `npm pack`. */
export function install(folder, flags = []) {
  const pack = run('npm', ['pack', '--json', '--foreground-scripts=false', '--pack-destination', folder, ...flags], {
    cwd: root,
  });
  assert.equal(pack.status, 0, pack.stderr);
  const [packed] = JSON.parse(pack.stdout.slice(pack.stdout.search(/^\[$/m)));
  writeFileSync(join(folder, 'package.json'), JSON.stringify({name: 'consumer', private: true}));
  const quick = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
  const installed = run('npm', ['install', ...quick, `./${packed.filename}`, '@tensorflow/tfjs@4.22.0'], {cwd: folder});
  assert.equal(installed.status, 0, installed.stderr);
  return packed;
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv[2])
  install(process.argv[2], ['--ignore-scripts']);
