/** Sources as plain JavaScript, for child processes. */
import {mkdirSync, readFileSync, writeFileSync} from 'node:fs';
import {dirname, join, relative} from 'node:path';
import {transformFileSync} from '@swc/core';

const ROOT = join(__dirname, '../..');

/** Compiles a source file and what it imports into a folder. Returns the path of the compiled file. */
export function compile(source: string, folder: string, done = new Set<string>()): string {
  const full = join(ROOT, source);
  const out = join(folder, source.replace(/\.ts$/, '.js'));
  if (done.has(full)) return out;
  done.add(full);
  const {code} = transformFileSync(full, {
    jsc: {target: 'es2022', parser: {syntax: 'typescript'}},
    module: {type: 'commonjs'},
  });
  mkdirSync(dirname(out), {recursive: true});
  writeFileSync(out, code);
  for (const [, path] of readFileSync(out, 'utf8').matchAll(/require\("(\.[^"]+)"\)/g)) {
    compile(relative(ROOT, join(dirname(full), `${path!}.ts`)), folder, done);
  }
  return out;
}
