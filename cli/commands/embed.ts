/** `gemma3 embed`: prints the embeddings of texts. */
import {type Command, Option} from 'commander';
import type {BackendName, FromPresetOptions, PoolingMode} from 'tfjs-gemma3';
import {table} from '../support/format';
import {type Io, printJson} from '../support/io';
import {backendOption, type Choices, dtypeOption, positiveInteger, presetOption, TINY} from '../support/options';
import {addHeaderOption, openingOf, type PresetOptions} from '../support/preset_options';
import {withLoadingBar} from '../support/progress';
import {readStdin} from '../support/utf8';

interface EmbedOptions extends Pick<PresetOptions, 'header'> {
  preset?: string;
  pooling?: PoolingMode;
  /** False for --no-normalize. */
  normalize: boolean;
  batchSize?: number;
  prompt?: string;
  similarity?: boolean;
  dtype?: FromPresetOptions['dtype'];
  backend: BackendName;
  json?: boolean;
}

const EXAMPLES = `
Prints one vector per line, as a JSON array of numbers, in the order of the texts. If TEXT is -, each line of standard input
that is not empty is one text. Texts longer than the preset's sequence length are cut.

The preset of an embedding model (embedding_gemma3_300m) gives trained embeddings. Any other preset, such as ${TINY},
which ships with the package, gives its pooled hidden states, which are only useful as a demonstration or as a start for
training.

Examples:
  $ gemma3 embed "Mars is called the Red Planet." "Venus is Earth's twin." --similarity
  $ gemma3 embed --preset ./embedding_gemma3_300m --json - < texts.txt
`;

export function addEmbed(program: Command, io: Io, {backends}: Choices): void {
  const command = program
    .command('embed')
    .description('print embeddings of texts')
    .argument('<TEXT...>', 'texts to embed, or - for the lines of standard input')
    .addOption(presetOption())
    .addOption(
      new Option(
        '--pooling <mode>',
        'use the hidden state of the last token, or the mean of all tokens (default: the preset\'s, or "last")',
      ).choices(['last', 'mean']),
    )
    .option('--no-normalize', 'do not scale vectors to length 1')
    .option('--batch-size <texts>', 'number of texts to process at once (default: 32)', positiveInteger)
    .option(
      '--prompt <name>',
      'what the texts are, such as query or document: one of the prompts that the model was trained with',
    )
    .option('--similarity', 'print the dot products of all pairs of texts instead of the vectors')
    .addOption(dtypeOption())
    .addOption(backendOption(backends))
    .option(
      '--json',
      'print one JSON object: vectors, their dimension and seconds; with --similarity, also the dot products',
    )
    .addHelpText('after', EXAMPLES);
  addHeaderOption(command);
  command.action((texts: string[], options: EmbedOptions) => embed(command, texts, options, io));
}

async function embed(command: Command, args: readonly string[], options: EmbedOptions, io: Io): Promise<void> {
  const refuse = (message: string): never => command.error(`error: ${message}`);
  const texts = await readTexts(args, io, refuse);
  const {Gemma3TextEmbedder, useBackend} = await import('tfjs-gemma3');
  const backend = await useBackend(options.backend);
  const {signal} = io;
  const embedder = await withLoadingBar(io, bars =>
    Gemma3TextEmbedder.fromPreset(options.preset ?? TINY, {
      ...openingOf(options),
      ...(options.dtype !== undefined && {dtype: options.dtype}),
      ...(options.pooling !== undefined && {poolingMode: options.pooling}),
      ...(!options.normalize && {normalize: false}),
      signal,
      ...bars,
    }),
  );
  try {
    const started = performance.now();
    const vectors = await embedder.encodeText(texts, {
      signal,
      ...(options.batchSize && {batchSize: options.batchSize}),
      ...(options.prompt !== undefined && {promptName: options.prompt}),
    });
    const seconds = (performance.now() - started) / 1000;
    const products = options.similarity ? embedder.similarity(vectors, vectors) : null;
    const embeddings = rounded(await vectors.array());
    const wrong = embeddings.findIndex(vector => !vector.every(Number.isFinite));
    if (wrong >= 0) {
      throw new Error(
        `Expected embeddings of finite numbers. Received: NaN or infinity for text ${wrong + 1}. ` +
          'Weights of the preset are damaged, or come from training that diverged.',
      );
    }
    const similarity = products && rounded(await products.array());
    vectors.dispose();
    products?.dispose();
    if (options.json) {
      const dimension = embeddings[0]!.length;
      printJson(io, {embeddings, dimension, ...(similarity && {similarity}), seconds, backend});
    } else if (similarity) {
      const right = similarity.map((_, i) => i);
      io.stdout.write(
        table(
          similarity.map(row => row.map(value => value.toFixed(4))),
          {right},
        ),
      );
    } else {
      for (const vector of embeddings) io.stdout.write(`${JSON.stringify(vector)}\n`);
    }
  } finally {
    embedder.dispose();
  }
}

async function readTexts(
  args: readonly string[],
  io: Io,
  refuse: (message: string) => never,
): Promise<readonly string[]> {
  const dashes = args.filter(text => text === '-').length;
  if (dashes === 0) return args;
  if (dashes > 1) refuse('standard input can be read only once. Pass one -.');
  const lines = (await readStdin(io)).split(/\r?\n/).filter(Boolean);
  const texts = args.flatMap(text => (text === '-' ? lines : [text]));
  return texts.length ? texts : refuse("missing argument 'TEXT': standard input was empty.");
}

/** Nine digits identify every float32. */
const rounded = (rows: readonly (readonly number[])[]): number[][] =>
  rows.map(row => row.map(value => Number(value.toPrecision(9))));
