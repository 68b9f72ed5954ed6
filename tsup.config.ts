import {defineConfig, type Options} from 'tsup';
import {modulesOf, platform, separateModules, tsconfigRaw} from './scripts/browser_modules';

/**
 * Gives classes their own names again, which users see in stacks and as `constructor.name`. esbuild calls a class that
 * refers to itself `_Name`, and one whose name is taken `Name2`. Its option `keepNames` would not change stacks, and
 * costs time for every function that is created.
 */
const classNames: NonNullable<Options['plugins']>[number] = {
  name: 'class-names',
  renderChunk(code) {
    const own = [...code.matchAll(/ = class _(\w+)/g)].map(([, name]) => name);
    const renamed = code
      // A space in place of the underscore, so that the source map stays exact.
      .replace(/(?<![\w$.])_(\w+)/g, (found, name) => (own.includes(name) ? ` ${name}` : found))
      // Also those without a number: tsup's translation to CommonJS would call them `_class1` and so on. A class whose
      // base has its name keeps the number, because it could not name the base.
      .replace(/^(var ([A-Z]\w*[A-Za-z])\d* = class)(?= extends (?!\2\b)| \{)/gm, '$1 $2');
    return {code: renamed};
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

/** Declarations on their own: in files that they shared with the index, its namespaces would have errors. */
const workerTypes: Options[] = process.argv.includes('--no-dts')
  ? []
  : [
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

export default defineConfig(async (): Promise<Options[]> => [
  {
    ...shared,
    entry: {...nodeEntries, ...nodeWorkerEntries},
    outDir: `${dist}/node`,
    platform: 'node',
    format: ['esm', 'cjs'],
    dts: {entry: nodeEntries},
    shims: true,
    clean: true,
  },
  {
    ...shared,
    entry: await modulesOf(...Object.values({...browserEntries, ...browserWorkerEntries})),
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
  },
  {
    // For pages without a bundler.
    ...shared,
    // A map would be a tenth of the package, and the modules in dist/browser have theirs.
    sourcemap: false,
    entry: {'tfjs-gemma3': 'src/index.ts'},
    outDir: `${dist}/page`,
    platform: 'browser',
    format: ['esm'],
    esbuildPlugins: [platform],
    noExternal: ['seedrandom'],
    minify: true,
    clean: true,
  },
  {
    ...shared,
    entry: {cli: 'cli/cli.ts'},
    outDir: dist,
    platform: 'node',
    format: ['esm'],
    shims: true,
    // The command imports the library as its users do, so that each layer class exists, and is registered, only once.
    external: ['@tensorflow/tfjs', 'tfjs-gemma3'],
  },
  ...workerTypes,
]);
