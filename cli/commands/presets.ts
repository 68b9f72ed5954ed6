/** `gemma3 presets`: lists the available presets. */
import {type Command} from 'commander';
import {formatCount, table} from '../support/format';
import {type Io, printJson} from '../support/io';
import {TINY} from '../support/options';

interface Row {
  name: string;
  parameters: number;
  description: string;
  /** Whether its files ship with the package. */
  packaged: boolean;
  /** Location of KerasHub's files; null for the preset of this package. */
  kaggleHandle: string | null;
}

const HELP = `
The files of ${TINY} ship with the package. The other presets are downloaded from Kaggle when they are
first used. Accept their licence there, and see "gemma3 download --help" for credentials.

Example:
  $ gemma3 presets
`;

export function addPresets(program: Command, io: Io): void {
  program
    .command('presets')
    .description('list presets by name')
    .option('--json', 'print one JSON object')
    .addHelpText('after', HELP)
    .action((options: {json?: boolean}) => presets(options, io));
}

async function presets(options: {json?: boolean}, io: Io): Promise<void> {
  const {Gemma3Backbone} = await import('tfjs-gemma3');
  const published = Object.entries(Gemma3Backbone.presets).map(([name, {metadata, kaggleHandle}]): Row => {
    return {name, parameters: metadata.params, description: metadata.description, packaged: false, kaggleHandle};
  });
  const rows = [...(await packagedPresets()), ...published];
  if (options.json) {
    printJson(io, {presets: rows});
    return;
  }
  const cells = rows.map(row => [
    row.name,
    formatCount(row.parameters),
    row.packaged ? `${row.description} Ships with the package.` : row.description,
  ]);
  io.stdout.write(table([['NAME', 'PARAMETERS', 'DESCRIPTION'], ...cells], {right: [1]}));
}

async function packagedPresets(): Promise<Row[]> {
  const {Gemma3Backbone} = await import('tfjs-gemma3');
  const backbone = await Gemma3Backbone.fromPreset(TINY, {loadWeights: false});
  const parameters = backbone.countParams();
  backbone.dispose();
  const description = 'A toy model of the same architecture, to try every feature.';
  return [{name: TINY, parameters, description, packaged: true, kaggleHandle: null}];
}
