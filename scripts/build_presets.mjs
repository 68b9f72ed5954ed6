/**
 * Writes each preset of the package as a module, `tfjs-gemma3/presets/<name>`, for programs that bundlers build: its
 * files as base64, loaded when the preset is opened by its name.
 *
 *     node scripts/build_presets.mjs
 */
import {mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync} from 'node:fs';
import {join, sep} from 'node:path';
import {fileURLToPath} from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const target = join(root, process.env.BUILD_FOLDER ?? 'dist', 'presets');

const loader = name => `export async function files() {
  const {FILES} = await import('./${name}_files.js');
  const blobOf = base64 => {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new Blob([bytes]);
  };
  return Object.fromEntries(Object.entries(FILES).map(([path, base64]) => [path, blobOf(base64)]));
}
`;

const registration = name => `const registry = (globalThis[Symbol.for('tfjs-gemma3.presets')] ??= {});
registry.${name} = async () => (await import('./${name}_blobs.js')).files();
`;

rmSync(target, {recursive: true, force: true});
mkdirSync(target, {recursive: true});
const presets = join(root, 'presets');
for (const name of readdirSync(presets).filter(entry => statSync(join(presets, entry)).isDirectory())) {
  const folder = join(presets, name);
  const paths = readdirSync(folder, {recursive: true}).filter(path => statSync(join(folder, path)).isFile());
  const entries = paths.sort().map(path => {
    const base64 = readFileSync(join(folder, path)).toString('base64');
    return `  ${JSON.stringify(path.replaceAll(sep, '/'))}: '${base64}',`;
  });
  const comment = `/** Registers the preset "${name}", so that \`fromPreset('${name}')\` finds it in a bundle. */\n`;
  writeFileSync(join(target, `${name}_files.js`), `export const FILES = {\n${entries.join('\n')}\n};\n`);
  writeFileSync(join(target, `${name}_blobs.js`), loader(name));
  writeFileSync(join(target, `${name}.js`), comment + registration(name));
  writeFileSync(join(target, `${name}.cjs`), comment + registration(name));
  for (const ending of ['d.ts', 'd.cts']) writeFileSync(join(target, `${name}.${ending}`), `${comment}export {};\n`);
}
