import {readFile, writeFile} from 'node:fs/promises';
import {resolve} from 'node:path';
import {defineConfig, type Options} from 'tsup';
import {modulesOf, separateModules, tsconfigRaw} from './scripts/browser_modules';
import {ownClassNames} from './scripts/class_names';
import {bundlePage, joinChunks, joinModules} from './scripts/join_modules';

const classNames: NonNullable<Options['plugins']>[number] = {
  name: 'class-names',
  renderChunk: code => ({code: ownClassNames(code)}),
};

/**
 * Keeps exports as they are. tsup's translation to CommonJS takes a class field for an assignment to an export of the
 * same name: the first object of the class would replace a function of another module.
 */
const fields: NonNullable<Options['plugins']>[number] = {
  name: 'fields',
  async buildEnd({writtenFiles}) {
    for (const {name} of writtenFiles.filter(file => file.name.endsWith('.cjs'))) {
      const code = await readFile(name, 'utf8');
      await writeFile(name, code.replace(/\bthis\.([\w$]+) = exports\.\1 = /g, 'this.$1 = '));
    }
  },
};

/** Where scripts/build.mjs builds, before it replaces `dist`. */
const dist = process.env.BUILD_FOLDER ?? 'dist';

/** What programs import in browsers, by the names of the modules. */
const browserEntries = {index: 'src/index.ts', 'public/register_layers': 'src/public/register_layers.ts'};
const browserWorkerEntries = {'worker/index': 'src/worker/index.ts', 'worker/host': 'src/worker/host.ts'};

/** The same in Node. */
const nodeEntries = {index: 'src/index.ts', layers: 'src/public/register_layers.ts'};
const nodeWorkerEntries = {worker: 'src/worker/index.ts', worker_host: 'src/worker/host.ts'};

/** Declarations on their own: in files that Workers shared with the index, its namespaces would have errors. */
const types: Options[] = process.argv.includes('--no-dts')
  ? []
  : [
      {entry: nodeEntries, outDir: `${dist}/node`, platform: 'node', format: ['esm', 'cjs'], dts: {only: true}},
      {entry: nodeWorkerEntries, outDir: `${dist}/node`, platform: 'node', format: ['esm', 'cjs'], dts: {only: true}},
      {entry: browserWorkerEntries, outDir: `${dist}/browser`, platform: 'browser', format: ['esm'], dts: {only: true}},
    ];

const shared: Options = {
  plugins: [classNames],
  // A module that is imported for what it registers must be in the list of side effects in package.json.
  esbuildOptions: options => {
    options.logOverride = {'ignored-bare-import': 'error'};
  },
  target: 'es2022',
  sourcemap: true,
  // Parts that are loaded on demand are files of their own.
  splitting: true,
  external: ['@tensorflow/tfjs', '@tensorflow/tfjs-backend-webgpu'],
};

/** Both builds are in one folder, which is new. */
const node: Options = {
  entry: {...nodeEntries, ...nodeWorkerEntries},
  outDir: `${dist}/node`,
  platform: 'node',
  shims: true,
};

export default defineConfig(async (): Promise<Options[]> => [
  {
    ...shared,
    ...node,
    format: ['esm'],
    onSuccess: () =>
      joinChunks(
        resolve(dist, 'node'),
        Object.keys({...nodeEntries, ...nodeWorkerEntries}).map(name => `${name}.js`),
      ),
  },
  // Maps of the same sources twice would be a tenth of the package.
  {...shared, ...node, format: ['cjs'], sourcemap: false, plugins: [classNames, fields]},
  {
    ...shared,
    entry: await modulesOf(
      ...Object.values({...browserEntries, ...browserWorkerEntries}),
      'src/public/base_classes.ts',
    ),
    outDir: `${dist}/browser`,
    platform: 'browser',
    format: ['esm'],
    splitting: false,
    esbuildPlugins: [separateModules],
    esbuildOptions: (options, context) => {
      shared.esbuildOptions!(options, context);
      delete options.tsconfig;
      options.tsconfigRaw = tsconfigRaw;
    },
    // A page without a bundler cannot load a CommonJS package.
    noExternal: ['seedrandom'],
    dts: {entry: browserEntries},
    clean: true,
    // Its messages list all modules.
    silent: true,
    onSuccess: async () => {
      const folder = resolve(dist, 'browser');
      await joinModules(folder);
      await bundlePage(folder, resolve(dist, 'page'));
    },
  },
  {
    ...shared,
    entry: {cli: 'cli/cli.ts'},
    outDir: dist,
    platform: 'node',
    format: ['esm'],
    splitting: false,
    shims: true,
    // The command imports the library as its users do, so that each layer class exists, and is registered, only once.
    external: ['@tensorflow/tfjs', 'tfjs-gemma3'],
  },
  ...types,
]);
