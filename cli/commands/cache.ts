/** `gemma3 cache`: the models that were downloaded. */
import {Argument, type Command} from 'commander';
import {plural, table} from '../support/format';
import {type Io, printJson} from '../support/io';

const ACTIONS = ['list', 'remove', 'verify'] as const;
type Action = (typeof ACTIONS)[number];

interface CacheOptions {
  repair?: boolean;
  json?: boolean;
}

const HELP = `
list shows the models in the caches that kagglehub, huggingface_hub and this package share. remove deletes NAME from them.
verify compares the files of NAME, or of all models, with their checksums, and exits with 1 if files are damaged.

NAME is a name that list shows, or one that "gemma3 presets" lists.

Examples:
  $ gemma3 cache list
  $ gemma3 cache verify gemma3_instruct_1b --repair
  $ gemma3 cache remove hf://google/gemma-3-270m-it
`;

export function addCache(program: Command, io: Io): void {
  const command = program
    .command('cache')
    .description('list, remove and verify downloaded models')
    .addArgument(new Argument('<ACTION>', 'what to do').choices(ACTIONS))
    .argument('[NAME]', 'model; with verify, all of them by default')
    .option('--repair', 'with verify: remove damaged files, so that the next download fetches them again')
    .option('--json', 'print one JSON object')
    .addHelpText('after', HELP);
  command.action(async (action: Action, name: string | undefined, options: CacheOptions) => {
    const refuse = (message: string) => command.error(`error: ${message}`, {exitCode: 2});
    if (action === 'list' && name !== undefined) refuse("'cache list' takes no name.");
    if (action === 'remove' && name === undefined) refuse("'cache remove' needs a name. See 'gemma3 cache list'.");
    if (action !== 'verify' && options.repair) refuse(`option '--repair' has no effect with '${action}'.`);
    await RUN[action](name, options, io);
  });
}

const RUN: Record<Action, (name: string | undefined, options: CacheOptions, io: Io) => Promise<void>> = {
  async list(_name, {json}, io) {
    const {cachedPresets, formatBytes} = await import('tfjs-gemma3');
    const models = await cachedPresets();
    if (json) {
      printJson(io, {models});
      return;
    }
    if (models.length === 0) {
      io.stdout.write('No models have been downloaded.\n');
      return;
    }
    const rows = models.map(({name, bytes, complete, folder}) => {
      return [name, formatBytes(bytes), complete ? 'complete' : 'partial', folder];
    });
    io.stdout.write(table([['NAME', 'SIZE', 'STATE', 'FOLDER'], ...rows], {right: [1]}));
  },

  async remove(name, {json}, io) {
    const {formatBytes, removeCachedPreset} = await import('tfjs-gemma3');
    const removed = await removeCachedPreset(name!);
    if (json) {
      printJson(io, {removed});
      return;
    }
    for (const {name, bytes} of removed) io.stdout.write(`${name}: removed, ${formatBytes(bytes)}\n`);
  },

  async verify(name, {repair, json}, io) {
    const {verifyCachedPresets} = await import('tfjs-gemma3');
    const models = await verifyCachedPresets(name, {...(repair && {repair}), signal: io.signal});
    const damaged = models.reduce((sum, model) => sum + model.damaged.length, 0);
    if (json) printJson(io, {models});
    else {
      for (const model of models) {
        const notes = [
          `${plural(model.files, 'file')} compared`,
          ...(model.damaged.length ? [`${model.damaged.length} damaged${repair ? ' and removed' : ''}`] : []),
          ...(model.unknown.length ? [`${model.unknown.length} without a known checksum`] : []),
        ];
        io.stdout.write(`${model.name}: ${notes.join(', ')}\n`);
        for (const {path, problem} of model.damaged) io.stdout.write(`  ${path} ${problem}\n`);
      }
      if (models.length === 0) io.stdout.write('No models have been downloaded.\n');
    }
    if (damaged === 0) return;
    const advice = repair ? 'Download again to replace them.' : 'Run again with --repair, and then download again.';
    throw new Error(`Expected files that match their checksums. Received: ${damaged} damaged. ${advice}`);
  },
};
