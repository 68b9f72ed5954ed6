import {defineConfig, type Options} from 'tsup';

const shared: Options = {
  target: 'es2022',
  sourcemap: true,
  splitting: false,
  external: ['@tensorflow/tfjs'],
};

export default defineConfig([
  {
    ...shared,
    entry: {index: 'src/index.ts'},
    outDir: 'dist/node',
    platform: 'node',
    format: ['esm', 'cjs'],
    dts: true,
    shims: true,
    clean: true,
  },
  {
    ...shared,
    entry: {index: 'src/index.ts'},
    outDir: 'dist/browser',
    platform: 'browser',
    format: ['esm'],
    dts: true,
    clean: true,
  },
  {
    ...shared,
    entry: {cli: 'cli/cli.ts'},
    outDir: 'dist',
    platform: 'node',
    format: ['esm'],
    shims: true,
    // The command imports the library as its users do, so that each layer class exists, and is registered, only once.
    external: ['@tensorflow/tfjs', 'tfjs-gemma3'],
  },
]);
