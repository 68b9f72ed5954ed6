/**
 * Builds the page in `demo` with this clone's package, and serves it.
 *
 *     node scripts/demo.mjs [--static] [--port PORT]
 *
 * `--static` only builds: demo/dist is then a folder for any web server.
 */
import {spawnSync} from 'node:child_process';
import {existsSync} from 'node:fs';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';

const at = path => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** The entries of the package that the page imports, in `dist` of this clone instead of npm's package. */
const ENTRIES = {
  'tfjs-gemma3/worker/host': 'dist/browser/worker/host.js',
  'tfjs-gemma3/worker': 'dist/browser/worker/index.js',
  'tfjs-gemma3/presets/gemma3_tiny': 'dist/presets/gemma3_tiny.js',
};

/** Options of Vite for the page. */
export const options = {
  configFile: at('demo/vite.config.ts'),
  resolve: {
    alias: Object.entries(ENTRIES).map(([name, path]) => ({find: new RegExp(`^${name}$`), replacement: at(path)})),
  },
};

/** Builds the page into `outDir`. */
export async function buildDemo(outDir = at('demo/dist'), logLevel = 'info') {
  const {build} = await import('vite');
  await build({...options, logLevel, build: {outDir, emptyOutDir: true}});
}

async function main() {
  const {values} = parseArgs({options: {static: {type: 'boolean'}, port: {type: 'string', default: '4173'}}});
  if (Object.values(ENTRIES).some(path => !existsSync(at(path)))) {
    const {status} = spawnSync(process.execPath, [at('scripts/build.mjs'), '--prepare'], {stdio: 'inherit'});
    if (status !== 0) process.exit(status ?? 1);
  }
  await buildDemo();
  if (values.static) {
    console.log('demo/dist is ready for any web server.');
    return;
  }
  const {preview} = await import('vite');
  const server = await preview({...options, preview: {port: Number(values.port)}});
  server.printUrls();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
