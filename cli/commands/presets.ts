/** `gemma3 presets`: what there is to choose from. */
import {type Command} from 'commander';
import {formatCount, table} from '../support/format';
import {type Io, printJson} from '../support/io';

interface Row {
  name: string;
  parameters: number;
  description: string;
  /** Its files come with the package. */
  packaged: boolean;
  /** Where KerasHub has it; null for a preset of this package alone. */
  kaggleHandle: string | null;
}

export function addPresets(program: Command, io: Io): void {
  program
    .command('presets')
    .description('list the presets that have a name')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  $ gemma3 presets\n')
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
    row.packaged ? `${row.description} In the package.` : row.description,
  ]);
  io.stdout.write(table([['NAME', 'PARAMETERS', 'DESCRIPTION'], ...cells], {right: [1]}));
}

async function packagedPresets(): Promise<Row[]> {
  const {Gemma3Backbone} = await import('tfjs-gemma3');
  const backbone = await Gemma3Backbone.fromPreset('gemma3_tiny', {loadWeights: false});
  const parameters = backbone.countParams();
  backbone.dispose();
  const description = 'A toy of the same architecture, to try everything with.';
  return [{name: 'gemma3_tiny', parameters, description, packaged: true, kaggleHandle: null}];
}
