/** The programs that the bundlers build, and how each bundler builds them. */
import {mkdirSync, writeFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {join} from 'node:path';
import {pathToFileURL} from 'node:url';

export const QUESTION = 'What is the capital of France?';
export const ANSWER = 'What is the capital of France? The capital of France is Paris.';

const generate = `
  await useBackend();
  const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  const text = await lm.generate('${QUESTION}', {maxLength: 24});
  lm.dispose();`;

const worker = `import {serve} from 'tfjs-gemma3/worker/host';
import 'tfjs-gemma3/presets/gemma3_tiny';
serve();
`;

const inWorker = `globalThis.inWorker = async () => {
  const worker = new ModelWorker(new Worker(new URL('./worker.js', import.meta.url), {type: 'module'}));
  const lm = await worker.loadCausalLM('gemma3_tiny');
  let text = '${QUESTION}';
  for await (const piece of lm.stream('${QUESTION}', {maxLength: 24})) text += piece;
  worker.terminate();
  return text;
};`;

const page = `import {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
import {ModelWorker} from 'tfjs-gemma3/worker';
import 'tfjs-gemma3/presets/gemma3_tiny';
globalThis.inPage = async () => {${generate}
  return text;
};
${inWorker}
`;

/** The page without the preset: it must say what to add, and no preset may be in its build. */
const without = `import {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
globalThis.inPage = async () => {${generate}
  return text;
};
`;

/** The page with base classes alone, which must find the classes that the preset holds. */
const base = `import {CausalLM, Tokenizer, useBackend} from 'tfjs-gemma3';
import 'tfjs-gemma3/presets/gemma3_tiny';
globalThis.inPage = async () => {${generate.replace('Gemma3CausalLM', 'CausalLM')}
  const tokenizer = await Tokenizer.fromPreset('gemma3_tiny');
  return [text, lm.constructor.className, tokenizer.constructor.className].join();
};
`;

/** Writes the sources of the programs into a folder. */
export function writeSources(folder) {
  for (const [name, files] of Object.entries({
    app: {'main.js': page, 'worker.js': worker},
    without: {'main.js': without},
    base: {'main.js': base},
  })) {
    mkdirSync(join(folder, name), {recursive: true});
    for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, name, file), text);
  }
}

const html = script => `<!doctype html><title>test</title><script type="module" src="${script}"></script>`;

/** Imports a package that is installed in the folder. */
const load = async (folder, name) => {
  const path = createRequire(join(folder, 'x.js')).resolve(name);
  const module = await import(pathToFileURL(path).href);
  return module.default ?? module;
};

/** The entries of a program: the Worker too, for bundlers that do not find it on their own. */
const entriesOf = (folder, name) =>
  ['main', ...(name === 'app' ? ['worker'] : [])].map(file => join(folder, name, `${file}.js`));

/** Builds a program into a folder that any static server can serve. → nothing */
export const builders = {
  async esbuild(folder, name, out) {
    const {build} = await load(folder, 'esbuild');
    const options = {bundle: true, minify: true, format: 'esm', splitting: true, logLevel: 'error'};
    await build({entryPoints: entriesOf(folder, name), outdir: out, ...options});
    writeFileSync(join(out, 'index.html'), html('./main.js'));
  },
  async 'esbuild, one file'(folder, name, out) {
    const {build} = await load(folder, 'esbuild');
    const options = {bundle: true, minify: true, format: 'esm', logLevel: 'error'};
    await build({entryPoints: entriesOf(folder, name), outdir: out, ...options});
    writeFileSync(join(out, 'index.html'), html('./main.js'));
  },
  async rollup(folder, name, out) {
    const {rollup} = await load(folder, 'rollup');
    const resolve = await load(folder, '@rollup/plugin-node-resolve');
    const commonjs = await load(folder, '@rollup/plugin-commonjs');
    const plugins = [(resolve.nodeResolve ?? resolve)({browser: true}), (commonjs.default ?? commonjs)()];
    const bundle = await rollup({input: entriesOf(folder, name), plugins, onwarn: () => {}});
    await bundle.write({dir: out, format: 'es'});
    await bundle.close();
    writeFileSync(join(out, 'index.html'), html('./main.js'));
  },
  async vite(folder, name, out) {
    const {build} = await load(folder, 'vite');
    const root = join(folder, name);
    writeFileSync(join(root, 'index.html'), html('/main.js'));
    await build({root, logLevel: 'error', configFile: false, build: {outDir: out, emptyOutDir: true}});
  },
  async webpack(folder, name, out) {
    const webpack = await load(folder, 'webpack');
    const config = {
      mode: 'production',
      context: join(folder, name),
      entry: './main.js',
      output: {path: out, publicPath: 'auto'},
      performance: {hints: false},
    };
    const stats = await new Promise((resolve, reject) =>
      webpack(config, (error, result) => (error ? reject(error) : resolve(result))),
    );
    if (stats.hasErrors()) throw new Error(stats.toString({colors: false, all: false, errors: true}));
    // Without a charset and as a classic script, as many pages have it: what is not ASCII is then read as other text.
    writeFileSync(join(out, 'index.html'), '<!doctype html><title>test</title><script src="./main.js"></script>');
  },
};

/** Starts Vite's development server. → {address, close} */
export async function viteServer(folder, name) {
  const {createServer} = await load(folder, 'vite');
  const root = join(folder, name);
  writeFileSync(join(root, 'index.html'), html('/main.js'));
  // What only the Worker imports is found when it starts. Vite would then reload the page once.
  const optimizeDeps = {include: ['tfjs-gemma3/worker/host']};
  const options = {root, logLevel: 'error', configFile: false, optimizeDeps};
  const server = await createServer({...options, server: {port: 0, host: '127.0.0.1'}});
  await server.listen();
  return {address: `http://127.0.0.1:${server.httpServer.address().port}`, close: () => server.close()};
}

/** Writes a Next.js application: a page that generates in the browser, and a route that does on the server. */
export function writeNextApp(folder) {
  const root = join(folder, 'next');
  const files = {
    'package.json': JSON.stringify({name: 'next-app', private: true}),
    'app/layout.js': 'export default ({children}) => <html><body>{children}</body></html>;\n',
    'app/page.js': `'use client';
import {useEffect} from 'react';
import {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
import {ModelWorker} from 'tfjs-gemma3/worker';
import 'tfjs-gemma3/presets/gemma3_tiny';
export default function Page() {
  useEffect(() => {
    globalThis.inPage = async () => {${generate}
      return text;
    };
    ${inWorker}
  }, []);
  return <p>ready</p>;
}
`,
    'app/worker.js': worker,
    'app/api/route.js': `import {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
export const dynamic = 'force-dynamic';
export async function GET() {${generate}
  return new Response(text);
}
`,
    'next.config.mjs': `export default {outputFileTracingRoot: ${JSON.stringify(folder)}, turbopack: {root: ${JSON.stringify(folder)}}};\n`,
  };
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(join(root, file, '..'), {recursive: true});
    writeFileSync(join(root, file), text);
  }
  return root;
}
