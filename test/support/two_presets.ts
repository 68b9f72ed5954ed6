/** Two presets that are saved over each other, as bytes. */
import {readdirSync} from 'node:fs';
import {intoFolder, writeAll} from '../../src/base/byte_sink';
import {readAll} from '../../src/base/byte_source';
import {folderSink, openFolder} from '../../src/platform/node/files';

/** Files of two presets: a single weights file, or shards, with some names in common. */
export const NAMES = {
  old: ['config.json', 'model.weights.h5', 'task.json', 'assets/tokenizer/vocabulary.spm'],
  new: ['config.json', 'model_0.weights.h5', 'model_1.weights.h5', 'assets/tokenizer/vocabulary.spm', 'image.json'],
};
export type Kind = keyof typeof NAMES;
export const ALL = [...new Set([...NAMES.old, ...NAMES.new])];
export const bytes = (text: string) => new TextEncoder().encode(text);

export async function save(folder: string, kind: Kind): Promise<void> {
  const sink = await folderSink(folder);
  const write = async () => {
    for (const name of NAMES[kind]) await writeAll(sink, name, bytes(kind));
  };
  await intoFolder(sink, write, name => ALL.includes(name));
}

/** What a reader finds: "old" or "new" if all files of that preset are there and no others, or a description. */
export async function found(folder: string): Promise<string> {
  const preset = await openFolder(folder);
  if (!preset) return 'none';
  const contents: [string, string][] = [];
  for (const name of ALL) {
    if (await preset.has(name)) contents.push([name, new TextDecoder().decode(await readAll(preset, name))]);
  }
  const whole = (['old', 'new'] as const).find(kind =>
    ALL.every(name => Object.fromEntries(contents)[name] === (NAMES[kind].includes(name) ? kind : undefined)),
  );
  return whole ?? JSON.stringify(contents);
}

export const listed = (folder: string) => readdirSync(folder, {recursive: true}).map(String).sort();

/** Names of all files and folders of a preset. */
export const entries = (kind: Kind, ...more: string[]) =>
  [...NAMES[kind], 'assets', 'assets/tokenizer', ...more].sort();
