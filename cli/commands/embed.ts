/** `gemma3 embed`: texts in, vectors out. */
import {addAbortSignal} from 'node:stream';
import {text as readText} from 'node:stream/consumers';
import {type Command, Option} from 'commander';
import type {BackendName, Gemma3TextEmbedder, PoolingMode} from 'tfjs-gemma3';
import {table} from '../support/format';
import {type Io, printJson} from '../support/io';
import {BACKENDS, DTYPES, positiveInteger} from '../support/options';
import {loadingBar} from '../support/progress';

const TINY = 'gemma3_tiny';

interface EmbedOptions {
  preset?: string;
  pooling?: PoolingMode;
  /** False for --no-normalize. */
  normalize: boolean;
  batchSize?: number;
  similarity?: boolean;
  dtype?: string;
  backend: BackendName;
  json?: boolean;
}

const EXAMPLES = `
Prints one vector a line, as a JSON array of numbers, in the order of the texts. TEXT - stands for the lines of standard
input, each a text of its own, empty ones left out. A text that is longer than the preset's sequence length is cut.

A preset of an embedding model (embedding_gemma3_300m) gives the embeddings it was trained for. Any other preset gives its
hidden states, pooled: a start for training, and a demonstration. That is what ${TINY}, the preset in the package, is for.

Examples:
  $ gemma3 embed "Mars is called the Red Planet." "Venus is Earth's twin." --similarity
  $ gemma3 embed --preset ./embedding_gemma3_300m --json - < texts.txt
`;

export function addEmbed(program: Command, io: Io): void {
  const command = program
    .command('embed')
    .description('print embeddings of texts')
    .argument('<TEXT...>', 'texts to embed, or - for the lines of standard input')
    .option('--preset <preset>', `folder, address or name of a preset (default: "${TINY}", which is in the package)`)
    .addOption(
      new Option(
        '--pooling <mode>',
        'what is made of the hidden states (default: as the preset says, or else "last")',
      ).choices(['last', 'mean']),
    )
    .option('--no-normalize', 'leave vectors as long as they are, instead of length 1')
    .option('--batch-size <texts>', 'how many texts at most at once (default: 32)', positiveInteger)
    .option('--similarity', 'print the dot product of each text with each, instead of the vectors')
    .addOption(new Option('--dtype <dtype>', "how weights rest (default: as the preset's)").choices(DTYPES))
    .addOption(new Option('--backend <name>', 'what computes').choices(BACKENDS).default('auto'))
    .option('--json', 'print one JSON object: the vectors, their size, how many seconds; the similarities if asked for')
    .addHelpText('after', EXAMPLES);
  command.action((texts: string[], options: EmbedOptions) => embed(command, texts, options, io));
}

async function embed(command: Command, given: readonly string[], options: EmbedOptions, io: Io): Promise<void> {
  const refuse = (message: string): never => command.error(`error: ${message}`);
  const texts = await readTexts(given, io, refuse);
  const {Gemma3TextEmbedder, useBackend} = await import('tfjs-gemma3');
  const backend = await useBackend(options.backend);
  const {signal} = io;
  const bar = loadingBar(io);
  let embedder: Gemma3TextEmbedder;
  try {
    embedder = await Gemma3TextEmbedder.fromPreset(options.preset ?? TINY, {
      ...(options.dtype !== undefined && {dtype: options.dtype}),
      ...(options.pooling !== undefined && {poolingMode: options.pooling}),
      ...(!options.normalize && {normalize: false}),
      signal,
      onProgress: bar.onProgress,
    });
  } finally {
    bar.stop();
  }
  try {
    const started = performance.now();
    const vectors = await embedder.encodeText(texts, {
      signal,
      ...(options.batchSize && {batchSize: options.batchSize}),
    });
    const seconds = (performance.now() - started) / 1000;
    const products = options.similarity ? embedder.similarity(vectors, vectors) : null;
    const embeddings = rounded(await vectors.array());
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
  given: readonly string[],
  io: Io,
  refuse: (message: string) => never,
): Promise<readonly string[]> {
  const marks = given.filter(text => text === '-').length;
  if (marks === 0) return given;
  if (marks > 1) refuse('standard input can be read once: give one -.');
  const lines = (await readText(addAbortSignal(io.signal, io.stdin))).split(/\r?\n/).filter(Boolean);
  const texts = given.flatMap(text => (text === '-' ? lines : [text]));
  return texts.length ? texts : refuse("missing argument 'TEXT': standard input was empty.");
}

/** Nine digits are all that a float32 has. */
const rounded = (rows: readonly (readonly number[])[]): number[][] =>
  rows.map(row => row.map(value => Number(value.toPrecision(9))));
