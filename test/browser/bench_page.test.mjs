/** The page of `bench/browser`, in Chromium on an adapter in software: this package's side, and what others lack. */
import assert from 'node:assert/strict';
import {execFile} from 'node:child_process';
import {fileURLToPath} from 'node:url';
import {promisify} from 'node:util';
import {test} from 'node:test';

const script = fileURLToPath(new URL('../../bench/browser/serve.mjs', import.meta.url));

test('measures this package, and says why others are left out', async () => {
  const args = ['--headless', '--sides', 'nobody,ours', '--tokens', '3', '--rounds', '2', '--words', '4'];
  const {stdout} = await promisify(execFile)(process.execPath, [script, ...args]);
  assert.match(stdout, /^nobody has no numbers: .*sides/m);
  assert.match(stdout, /^tfjs-gemma3 +\d+\.\d +\d+\.\d{3} s +\d+ +3 +\d/m);
  assert.match(stdout, /% of a plain copy/);
  assert.match(stdout, /^tfjs-gemma3: \d+\.\d \d+\.\d \| \d/m);
});
