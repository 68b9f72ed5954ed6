/**
 * Builds the page and serves it, with the folders `models` and `presets`, on http://localhost. Needs a build:
 * `npm run build`. See bench/README.md.
 *
 *     node bench/browser/serve.mjs [--no-peers] [--port 8080]
 */
import {execFileSync} from 'node:child_process';
import {existsSync} from 'node:fs';
import {readFile} from 'node:fs/promises';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {build} from 'esbuild';
import {serve} from '../../test/browser/server.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));

const PEERS = ['@huggingface/transformers', '@mlc-ai/web-llm'];

/** The text of the page, by path. */
export async function pages() {
  // A side that is not installed fails when it is chosen, and says so.
  const missing = PEERS.filter(name => !existsSync(`${here}node_modules/${name}`));
  const bundle = await build({
    entryPoints: [`${here}page.mjs`],
    outdir: '/',
    entryNames: 'page',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'browser',
    external: missing,
    // This folder is a package of its own, in which the name of the one around it means nothing.
    alias: {'tfjs-gemma3': `${root}dist/browser/index.js`},
    write: false,
    logLevel: 'error',
    tsconfigRaw: '{}',
  });
  const scripts = bundle.outputFiles.map(({path, text}) => [path, text]);
  return {'/': await readFile(`${here}index.html`, 'utf8'), ...Object.fromEntries(scripts)};
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const {values} = parseArgs({options: {'no-peers': {type: 'boolean'}, port: {type: 'string', default: '8080'}}});
  if (!values['no-peers'] && !existsSync(`${here}node_modules`)) {
    execFileSync('npm', ['install', '--no-audit', '--no-fund'], {cwd: here, stdio: 'inherit'});
  }
  const {address} = await serve(root, await pages(), Number(values.port));
  console.log(`Open ${address.replace('127.0.0.1', 'localhost')} in a browser with WebGPU. Ctrl-C ends the server.`);
}
