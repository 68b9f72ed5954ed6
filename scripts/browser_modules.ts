/**
 * The browser build: one file per module, so that bundlers leave out what an application does not use, and load parts
 * on demand. esbuild alone would join modules into files that bundlers can only take as a whole.
 */
import {existsSync} from 'node:fs';
import {dirname, join, relative, resolve} from 'node:path';
import {build, type Plugin} from 'esbuild';

// tsup runs this file in the root of the package.
const root = resolve('.');

/** The source file that an import refers to; undefined for packages and data. */
function sourceOf(name: string, folder: string): string | undefined {
  const [, kind, subject] = /^#(platform|backends)\/(.*)$/.exec(name) ?? [];
  const path =
    kind === 'platform'
      ? join(root, 'src/platform/browser', subject!)
      : kind === 'backends'
        ? join(root, 'src/backends', subject!, 'absent')
        : join(folder, name);
  return [`${path}.ts`, join(path, 'index.ts')].find(existsSync);
}

/** The module's name in the build: its path in `src/`, or in the package for the other folders. */
const nameOf = (file: string) =>
  relative(root, file)
    .replace(/^src\//, '')
    .replace(/\.ts$/, '');

/** Removes imports of which only types are used. */
export const tsconfigRaw = {compilerOptions: {target: 'es2022', useDefineForClassFields: true}};

/** Resolves platform-dependent imports for browsers. */
const platform: Plugin = {
  name: 'platform',
  setup({onResolve}) {
    onResolve({filter: /^#(platform|backends)\//}, ({path, resolveDir}) => ({path: sourceOf(path, resolveDir)!}));
  },
};

/** All modules that the entries need, also on demand, by name: the entries of the build. */
export async function modulesOf(...entries: string[]): Promise<Record<string, string>> {
  const {metafile} = await build({
    entryPoints: entries.map(entry => join(root, entry)),
    plugins: [platform],
    absWorkingDir: root,
    bundle: true,
    format: 'esm',
    packages: 'external',
    metafile: true,
    write: false,
    splitting: true,
    outdir: 'dist',
    tsconfigRaw,
    logLevel: 'error',
  });
  const sources = Object.keys(metafile.inputs).filter(file => file.endsWith('.ts'));
  return Object.fromEntries(sources.map(file => [nameOf(join(root, file)), file]));
}

/** Leaves each module's imports of other modules as they are, with the names that the build gives them. */
export const separateModules: Plugin = {
  name: 'separate-modules',
  setup({onResolve}) {
    onResolve({filter: /^(\.\.?|#platform|#backends)\//}, ({path, importer, resolveDir}) => {
      const source = importer.endsWith('.ts') ? sourceOf(path, resolveDir) : undefined;
      if (!source) return undefined;
      const target = relative(dirname(nameOf(importer)), nameOf(source));
      return {path: `${target.startsWith('.') ? '' : './'}${target}.js`, external: true};
    });
  },
};
