/** `gemma3 inspect`: shows what a preset consists of and how much memory it needs. */
import {type Command} from 'commander';
import type {CacheDtype} from 'tfjs-gemma3';
import {formatCount, table} from '../support/format';
import {type Io, printJson} from '../support/io';
import {cacheDtypeOption} from '../support/options';
import {addOpeningOptions, openingOf, type PresetOptions} from '../support/preset_options';
import {presetFacts, type PresetFacts, type Variable} from '../support/preset_facts';

interface InspectOptions extends PresetOptions {
  variables?: boolean;
  cacheDtype: CacheDtype;
  json?: boolean;
}

const EXAMPLES = `
PRESET is a folder, a .gguf or .keras file, a URL or a name. No weights are loaded or downloaded. The names that "gemma3 presets" lists work even without files.

Examples:
  $ gemma3 inspect gemma3_tiny
  $ gemma3 inspect gemma3_27b
  $ gemma3 inspect ./gemma3_270m --variables
  $ gemma3 inspect hf://google/gemma-3-270m-it
`;

export function addInspect(program: Command, io: Io): void {
  const command = program
    .command('inspect')
    .description('show architecture, variables, files and memory of a preset')
    .argument('<PRESET>', 'preset to inspect')
    .option('--variables', 'list every variable instead of one per kind of block')
    .addOption(cacheDtypeOption())
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES);
  addOpeningOptions(command).action(async (preset: string, options: InspectOptions) => {
    const facts = await presetFacts(preset, openingOf(options), options.cacheDtype);
    if (options.json) {
      printJson(io, facts);
      return;
    }
    const {formatBytes} = await import('tfjs-gemma3');
    io.stdout.write(describe(facts, options, formatBytes));
  });
}

/** A number of bytes as text; see `formatBytes` of the package. */
type Format = (bytes: number) => string;

function describe(facts: PresetFacts, options: InspectOptions, formatBytes: Format): string {
  const sections = [
    head(facts, formatBytes),
    `Configuration\n${configuration(facts.config)}`,
    variables(facts.variables, options, formatBytes),
    memory(facts, options, formatBytes),
  ];
  return sections.filter(Boolean).join('\n');
}

function head(facts: PresetFacts, formatBytes: Format): string {
  const {preset, source, parameters, format, title, files, variables: all} = facts;
  const rows = [['Preset', preset]];
  rows.push(['Files', source ?? 'not on this machine']);
  for (const file of files) {
    rows.push(['', `${file.name}: ${formatCount(file.variables)} variables, ${formatBytes(file.bytes)}`]);
  }
  const dtypes = [...new Set(all.map(({dtype}) => dtype))].join(', ');
  const layout = format === 'single' || format === 'sharded' ? `${title}, ${format}` : title;
  if (source) rows.push(['Format', format ? `${layout}, ${dtypes}` : 'no weight files']);
  if (parameters !== null) rows.push(['Parameters', formatCount(parameters)]);
  return table(rows);
}

/** Keys as in config.json. Nested objects are indented. */
function configuration(config: object, indent = 2): string {
  let lines = '';
  let rows: string[][] = [];
  const flush = () => {
    lines += table(rows, {indent});
    rows = [];
  };
  for (const [key, value] of Object.entries(config)) {
    const name = policyName(value);
    if (name === undefined && typeof value === 'object' && value !== null) {
      flush();
      const inner = (value as {config?: unknown}).config;
      lines += `${' '.repeat(indent)}${key}\n`;
      lines += configuration(typeof inner === 'object' && inner !== null ? inner : value, indent + 2);
    } else {
      rows.push([key, name ?? String(value)]);
    }
  }
  flush();
  return lines;
}

/** The name of a dtype, which Keras serializes as an object. */
function policyName(value: unknown): string | undefined {
  const {class_name: kind, config} = (value ?? {}) as {class_name?: unknown; config?: {name?: unknown}};
  return typeof kind === 'string' && kind.endsWith('DTypePolicy') ? String(config?.name ?? kind) : undefined;
}

function variables(all: readonly Variable[], options: InspectOptions, formatBytes: Format): string {
  if (!all.length) return '';
  const shown = options.variables ? all.map(variable => ({variable, count: 1})) : oneOfEachKind(all);
  const rows = shown.map(({variable: {path, shape, dtype, bytes}, count}) => [
    count > 1 ? `${count} ×` : '',
    path,
    `[${shape.join(', ')}]`,
    dtype ?? '',
    bytes === null ? '' : formatBytes(bytes * count),
  ]);
  const note = shown.length === all.length ? '' : ' (* stands for the number of a block)';
  return `Variables: ${formatCount(all.length)}${note}\n${table(rows, {indent: 2, right: [0, 4]})}`;
}

/** Merges variables that differ only in the number of their block. */
function oneOfEachKind(all: readonly Variable[]): {variable: Variable; count: number}[] {
  const kinds = new Map<string, {variable: Variable; count: number}>();
  for (const variable of all) {
    const short = variable.path.replace(/(^|\/)layers\//g, '$1');
    // The first block in a file has no number: `gemma3_decoder_block`, then `gemma3_decoder_block_1`.
    const path = short
      .replace(/(^|\/)(\w*?_block|resblocks\/\w*?)(_\d+)?(?=\/)/g, '$1$2_*')
      // Names of other programs: `model.layers.0.mlp.up_proj.weight`.
      .replace(/\.\d+\./g, '.*.');
    const key = `${path} ${variable.shape.join()} ${variable.dtype}`;
    const kind = kinds.get(key);
    if (kind) kinds.set(key, {variable: {...variable, path}, count: kind.count + 1});
    else kinds.set(key, {variable: {...variable, path: short}, count: 1});
  }
  return [...kinds.values()];
}

function memory(
  {memory: bytes, cache, problem}: PresetFacts,
  {cacheDtype}: InspectOptions,
  formatBytes: Format,
): string {
  if (!bytes) return `This version cannot build the model: ${problem}\n`;
  const rows = Object.entries(bytes).map(([dtype, count]) => [dtype, formatBytes(count)]);
  const lengths = (cache ?? []).map(entry => [`${formatCount(entry.tokens)} tokens`, formatBytes(entry.bytes)]);
  return (
    `Memory for the weights\n${table(rows, {indent: 2, right: [1]})}` +
    `Memory for the cache of one text, ${cacheDtype}\n${table(lengths, {indent: 2, right: [0, 1]})}`
  );
}
