/**
 * Joins modules of the browser build that bundlers would put into separate files. Bundlers make a file for each set of
 * on-demand parts that share a module: a page that generates text would load some fifty files, most of them so small
 * that gzip finds little to repeat. So modules that a page needs from the start, and that parts on demand need as well,
 * become a few files, `joined_1.js` and so on. In each of them are modules that the same programs of a list need, so
 * that a small program does not load more than before.
 */
import {readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {dirname, join, relative, resolve, sep} from 'node:path';
import {build, type BuildOptions, type Metafile, type Plugin} from 'esbuild';
import {ownClassNames, withoutClassNames} from './class_names';

const fromIndex = (names: string) => `export {${names}} from './index.js';`;

/** The imports of small programs, and last those of a page that generates text. */
const PROGRAMS = [
  ...['applyChatTemplate', 'useBackend', 'layers', 'files', 'Gemma3Tokenizer'].map(fromIndex),
  fromIndex('Gemma3CausalLM, useBackend'),
];

/** Everything that programs can import. */
const EVERYTHING = ['./index.js', './worker/index.js', './worker/host.js', './public/register_layers.js'];

const BASE_CLASSES = 'public/base_classes.js';

/** The file that replaces a module, and the names of its exports there. */
interface Joined {
  readonly target: string;
  readonly names: ReadonlyMap<string, string>;
}

type Plan = ReadonlyMap<string, Joined>;

const {sideEffects} = JSON.parse(readFileSync('package.json', 'utf8')) as {sideEffects: string[]};
const PREFIX = './dist/browser/';
/** Modules that bundlers keep wherever they are imported. */
const withEffects = new Set(sideEffects.filter(path => path.startsWith(PREFIX)).map(path => path.slice(PREFIX.length)));

const slashes = (path: string) => path.split(sep).join('/');

const common = {
  bundle: true,
  format: 'esm',
  target: 'es2022',
  platform: 'browser',
  external: ['@tensorflow/tfjs', '@tensorflow/tfjs-backend-webgpu'],
  tsconfigRaw: '{}',
  write: false,
  logLevel: 'error',
} as const satisfies BuildOptions;

/** Tells esbuild what package.json says about the folder under its final name. */
const effectsIn = (folder: string): Plugin => ({
  name: 'effects',
  setup({onResolve}) {
    onResolve({filter: /^\./}, ({path, resolveDir}) => {
      const file = resolve(resolveDir, path);
      return {path: file, sideEffects: withEffects.has(slashes(relative(folder, file)))};
    });
  },
});

/** Bundles a program, as an application would. Names of modules are relative to the folder. */
async function bundle(folder: string, contents: string): Promise<Metafile> {
  const {metafile} = await build({
    ...common,
    absWorkingDir: folder,
    stdin: {contents, resolveDir: folder, sourcefile: 'program.js'},
    splitting: true,
    outdir: 'out',
    metafile: true,
    plugins: [effectsIn(folder)],
  });
  return metafile;
}

/** Some nodes of a graph with everything that is reachable from them. */
function closure(
  nodes: Iterable<string>,
  next: (node: string) => readonly string[],
  found = new Set<string>(),
): Set<string> {
  for (const node of nodes) {
    if (found.has(node)) continue;
    found.add(node);
    closure(next(node), next, found);
  }
  return found;
}

const pathsOf = (imports: Metafile['inputs'][string]['imports'], kind: string) =>
  imports.filter(one => one.kind === kind && !one.external).map(({path}) => path);

/** What each module of the build imports, and the modules that are loaded on demand. */
async function readImports(folder: string) {
  const {inputs} = await bundle(
    folder,
    EVERYTHING.map((file, index) => `export * as part${index} from '${file}';`).join('\n'),
  );
  const modules = Object.entries(inputs);
  return {
    imports: new Map(modules.map(([file, {imports}]) => [file, pathsOf(imports, 'import-statement')])),
    onDemand: new Set(modules.flatMap(([, {imports}]) => pathsOf(imports, 'dynamic-import'))),
  };
}

/** The modules of which a program loads code at its start. */
async function startOf(folder: string, program: string): Promise<Set<string>> {
  const {outputs} = await bundle(folder, program);
  const entry = Object.keys(outputs).find(file => outputs[file]!.entryPoint === 'program.js')!;
  const loaded = closure([entry], file => pathsOf(outputs[file]!.imports as never, 'import-statement'));
  const inputs = [...loaded].flatMap(file => Object.entries(outputs[file]!.inputs));
  return new Set(inputs.filter(([, {bytesInOutput}]) => bytesInOutput > 0).map(([file]) => file));
}

/** Names for everything that several modules export, without duplicates. */
async function exportNames(folder: string, files: readonly string[]): Promise<[string, Map<string, string>][]> {
  const taken = new Set<string>();
  const all: [string, Map<string, string>][] = [];
  for (const file of files) {
    const {metafile} = await build({
      absWorkingDir: folder,
      entryPoints: [file],
      outdir: 'out',
      metafile: true,
      write: false,
      logLevel: 'error',
    });
    const names = new Map<string, string>();
    for (const name of Object.values(metafile.outputs)[0]!.exports) {
      let free = name;
      for (let number = 2; taken.has(free); number++) free = `${name}_${number}`;
      taken.add(free);
      names.set(name, free);
    }
    all.push([file, names]);
  }
  return all;
}

/** Which modules to join. */
async function planOf(folder: string): Promise<Plan> {
  const {imports, onDemand} = await readImports(folder);
  const importsOf = (file: string) => imports.get(file) ?? [];
  const shared = closure(onDemand, importsOf);
  const alone = new Set([...withEffects, ...onDemand]);
  const starts = await Promise.all(PROGRAMS.map(program => startOf(folder, program)));
  // The client of a Worker is for pages that load neither models nor TensorFlow.js.
  const client = closure(['worker/index.js'], importsOf);
  const groups = new Map<string, string[]>();
  for (const file of starts.at(-1)!) {
    if (!shared.has(file) || alone.has(file)) continue;
    // Two modules must not be joined if a module between them on an import path stays separate: it would import its
    // importer.
    const below = [...closure([file], importsOf)].filter(one => alone.has(one)).sort();
    const key = [client.has(file), ...starts.map(files => files.has(file)), ...below].join();
    groups.set(key, [...(groups.get(key) ?? []), file]);
  }
  const plan = new Map<string, Joined>();
  const larger = [...groups.values()].filter(({length}) => length > 1);
  for (const [index, files] of larger.entries()) {
    const target = `joined_${index + 1}.js`;
    for (const [file, names] of await exportNames(folder, files)) plan.set(file, {target, names});
  }
  checkCircles(imports, plan);
  return plan;
}

const targetsOf = (plan: Plan) => new Set([...plan.values()].map(({target}) => target));

/** @throws Error if joined files would import each other: they would run in the wrong order. */
function checkCircles(imports: ReadonlyMap<string, readonly string[]>, plan: Plan): void {
  const placeOf = (file: string) => plan.get(file)?.target ?? file;
  const next = new Map<string, string[]>();
  for (const [file, paths] of imports) {
    const place = placeOf(file);
    const others = paths.map(placeOf).filter(other => other !== place);
    next.set(place, [...(next.get(place) ?? []), ...others]);
  }
  const nextOf = (place: string) => next.get(place) ?? [];
  for (const target of targetsOf(plan)) {
    if (!closure(nextOf(target), nextOf).has(target)) continue;
    const files = [...plan.keys()].filter(file => placeOf(file) === target);
    throw new Error(`Expected joined files without circles. ${target} would import itself: ${files.join(', ')}.`);
  }
}

/** `a, b as c`: a list for an import or export. */
const listed = (pairs: Iterable<readonly [string, string]>) =>
  [...pairs].map(([name, as]) => (name === as ? name : `${name} as ${as}`)).join(', ');

/** The code of a joined file, and its source map. */
async function joinedFile(folder: string, target: string, plan: Plan, options: BuildOptions = {}) {
  const inside = [...plan].filter(([, one]) => one.target === target);
  const members = new Set(inside.map(([file]) => file));
  const others: Plugin = {
    name: 'others',
    setup({onLoad, onResolve}) {
      onResolve({filter: /^\./}, ({path, resolveDir}) => {
        const file = resolve(resolveDir, path);
        const name = slashes(relative(folder, file));
        return members.has(name) ? {path: file} : {path: `./${name}`, external: true};
      });
      // esbuild would number names that are there twice, inside and outside of the class.
      onLoad({filter: /\.js$/}, ({path}) => ({contents: withoutClassNames(readFileSync(path, 'utf8'))}));
    },
  };
  const {outputFiles} = await build({
    ...common,
    ...options,
    write: false,
    absWorkingDir: folder,
    stdin: {
      contents: inside.map(([file, {names}]) => `export {${listed(names)}} from './${file}';`).join('\n'),
      resolveDir: folder,
      sourcefile: target,
    },
    outfile: target,
    sourcemap: true,
    plugins: [others],
  });
  return outputFiles.map(({path, text}) => ({path, text: path.endsWith('.js') ? ownClassNames(text) : text}));
}

/** Leads imports of joined modules to the joined files. `whole` gets the modules that a file imports with all names. */
function redirected(file: string, text: string, plan: Plan, whole: Set<string>): string {
  const folder = dirname(file);
  const imported = new Set<string>();
  const bare = text.replace(/^import "(\.[^"]+)";\n/gm, (found, path: string) => {
    const joined = plan.get(slashes(join(folder, path)));
    if (!joined || imported.has(joined.target)) return joined ? '' : found;
    imported.add(joined.target);
    return `import "${pathTo(joined.target, folder)}";\n`;
  });
  return bare.replace(/^(import|export) (\{[^}]*\}|\* as \w+) from "(\.[^"]+)";$/gm, (found, kind, list, path) => {
    const module = slashes(join(folder, path as string));
    const joined = plan.get(module);
    if (!joined) return found;
    if ((list as string).startsWith('*')) {
      whole.add(module);
      return found;
    }
    const pairs = (list as string)
      .slice(1, -1)
      .split(',')
      .map(item => item.trim().split(' as ') as [string, string?])
      .map(([name, as = name]) => [joined.names.get(name)!, as] as const);
    return `${kind} { ${listed(pairs)} } from "${pathTo(joined.target, folder)}";`;
  });
}

function pathTo(file: string, folder: string): string {
  const path = slashes(relative(folder, file));
  return path.startsWith('.') ? path : `./${path}`;
}

/** Lets the index take base classes from the module that names their subclasses, too. */
function withSubclasses(folder: string): void {
  const index = join(folder, 'index.js');
  const moved: string[] = [];
  const classes = readFileSync(join(folder, BASE_CLASSES), 'utf8');
  const names = [...classes.matchAll(/^var (\w+) = .* withClasses\(/gm)].map(([, name]) => name!);
  const text = readFileSync(index, 'utf8').replace(
    /^import \{([^}]*)\} from "(\.[^"]+)";$/gm,
    (_, list: string, path) => {
      const imported = list.split(',').map(name => name.trim());
      moved.push(...imported.filter(name => names.includes(name)));
      const rest = imported.filter(name => !names.includes(name));
      return rest.length ? `import { ${rest.join(', ')} } from "${path}";` : '';
    },
  );
  if (moved.length === 0 || moved.length !== names.length) {
    throw new Error(`Expected the index to have the base classes ${names.join(', ')}. Received: ${moved.join(', ')}.`);
  }
  writeFileSync(index, `import { ${moved.join(', ')} } from "./${BASE_CLASSES}";\n${text}`);
}

/** Joins modules of the build in a folder, whose index then has base classes that find their subclasses. */
export async function joinModules(folder: string): Promise<void> {
  withSubclasses(folder);
  await replaceModules(folder, await planOf(folder));
}

/** Joins what `planOf` or `chunkPlanOf` says. */
async function replaceModules(folder: string, plan: Plan, options?: BuildOptions): Promise<void> {
  const files = [];
  for (const target of targetsOf(plan)) files.push(...(await joinedFile(folder, target, plan, options)));
  for (const file of plan.keys()) {
    for (const name of [file, `${file}.map`]) rmSync(join(folder, name));
  }
  for (const {path, text} of files) writeFileSync(path, text);
  const whole = new Set<string>();
  for (const name of readdirSync(folder, {recursive: true, encoding: 'utf8'}).filter(one => one.endsWith('.js'))) {
    const path = join(folder, name);
    writeFileSync(path, redirected(slashes(name), readFileSync(path, 'utf8'), plan, whole));
  }
  for (const file of whole) {
    const {target, names} = plan.get(file)!;
    const exported = listed([...names].map(([name, own]) => [own, name]));
    writeFileSync(join(folder, file), `export { ${exported} } from "${pathTo(target, dirname(file))}";\n`);
  }
}

const STATIC = /^(?:import|export) (?:\{[^}]*\} from )?"\.\/([^"]+)";$/gm;
const ON_DEMAND = /\bimport\("\.\/([^"]+)"\)/g;

/** Which chunks to join: those that the same entries load at their start. */
async function chunkPlanOf(folder: string, entries: readonly string[]): Promise<Plan> {
  const names = readdirSync(folder).filter(name => name.endsWith('.js'));
  const texts = new Map(names.map(name => [name, readFileSync(join(folder, name), 'utf8')]));
  const pathsIn = (pattern: RegExp) => (name: string) =>
    [...texts.get(name)!.matchAll(pattern)].map(([, path]) => path!);
  const importsOf = pathsIn(STATIC);
  const alone = new Set([...entries, ...names.flatMap(pathsIn(ON_DEMAND))]);
  const loaded = entries.map(entry => closure([entry], importsOf));
  const groups = new Map<string, string[]>();
  for (const file of new Set(loaded.flatMap(files => [...files]))) {
    if (alone.has(file)) continue;
    const below = [...closure([file], importsOf)].filter(one => alone.has(one)).sort();
    const key = [...loaded.map(files => files.has(file)), ...below].join();
    groups.set(key, [...(groups.get(key) ?? []), file]);
  }
  const plan = new Map<string, Joined>();
  const larger = [...groups.values()].filter(({length}) => length > 1);
  for (const [index, files] of larger.entries()) {
    const target = `joined_${index + 1}.js`;
    for (const [file, names] of await exportNames(folder, files)) plan.set(file, {target, names});
  }
  checkCircles(new Map(names.map(name => [name, importsOf(name)])), plan);
  return plan;
}

/**
 * Joins chunks of the build for Node that its entries load at their start. esbuild makes one for each set of parts on
 * demand that share modules, a hundred together, and Node takes half a millisecond to find and open each.
 */
export async function joinChunks(folder: string, entries: readonly string[]): Promise<void> {
  const plan = await chunkPlanOf(folder, entries);
  await replaceModules(folder, plan, {platform: 'node', packages: 'external'});
}

/** Bundles the build for pages without a bundler. Without maps: the modules have them, and they are large. */
export async function bundlePage(folder: string, target: string): Promise<void> {
  rmSync(target, {recursive: true, force: true});
  await build({
    ...common,
    absWorkingDir: folder,
    entryPoints: {'tfjs-gemma3': './index.js'},
    plugins: [effectsIn(folder)],
    splitting: true,
    minify: true,
    outdir: target,
    write: true,
  });
}
