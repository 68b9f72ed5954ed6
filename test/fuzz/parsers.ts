/** Every parser of foreign bytes, with files to damage. */
import {type PresetSource} from '../../src/base/byte_source';
import {camelKeys} from '../../src/base/casing';
import {completeConfig, knownConfig} from '../../src/models/gemma3/parts/backbone_config';
import {openCheckpoint} from '../../src/checkpoints/open_checkpoint';
import {decoderOf, readGguf} from '../../src/formats/gguf';
import {Hdf5File} from '../../src/formats/hdf5';
import {readSafetensors} from '../../src/formats/safetensors';
import {ZipFile} from '../../src/formats/zip';
import {decodeJpeg, isJpeg} from '../../src/images/jpeg';
import {MAX_IMAGE_PIXELS} from '../../src/images/pixels';
import {decodePng, isPng} from '../../src/images/png';
import {Gemma3CausalLMPreprocessor, Gemma3ImageConverter, Gemma3Tokenizer} from '../../src';
import {SentencePiece} from '../../src/tokenizers/sentence_piece';
import {protoOfTokenizerJson} from '../../src/tokenizers/tokenizer_json';
import {type Json, readJson} from '../../src/base/json';
import {fixtureBytes, fixtureJson, fixtureNames} from '../support/fixtures';
import {kerasFile} from '../support/keras_files';
import {damagedBytes, damagedJson, type Random} from './mutations';
import {countedSource, guardedPreset} from './guard';
import {shortGguf, shortTokenizerJson, shortVocabulary} from './short_files';

/** A file to damage. */
export interface Seed {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** The other files of its folder. */
  readonly folder?: ReadonlyMap<string, Uint8Array>;
}

export interface Parser {
  readonly name: string;
  readonly seeds: readonly Seed[];
  damage(original: Uint8Array, random: Random): Uint8Array;
  /** Reads everything. */
  read(seed: Seed, bytes: Uint8Array): Promise<void>;
  /** Bytes that reading may allocate, for a file of this size. Defaults to 24 times the size and 4 MiB. */
  limit?(size: number): number;
  /** Mutations in CI. Defaults to 1,000. */
  readonly budget?: number;
}

const seeds = (folder: string, names: readonly string[]): Seed[] =>
  names.map(name => ({name, bytes: fixtureBytes(`${folder}/${name}`)}));

const gguf: Parser = {
  name: 'gguf',
  seeds: seeds('gguf', ['types.gguf']),
  damage: damagedBytes,
  read: async ({name}, bytes) => {
    const source = countedSource(name, bytes);
    const {tensors} = await readGguf(source);
    for (const {type, offset, byteLength, shape} of tensors.values()) {
      const values = new Uint8Array(byteLength);
      await source.readInto(offset, values);
      const count = shape.reduce((product, size) => product * size, 1);
      decoderOf(type.name)?.(values, count / type.blockSize, new Float32Array(count));
    }
  },
};

const safetensors: Parser = {
  name: 'safetensors',
  seeds: [
    ...seeds('huggingface/shards', ['model-00002-of-00003.safetensors']),
    ...seeds('huggingface/embedder/2_Dense', ['model.safetensors']),
  ],
  damage: (original, random) => {
    if (random(2) === 0) return damagedBytes(original, random);
    // Damage inside the JSON of the header, with the length that it then has.
    const size = Number(new DataView(original.buffer, original.byteOffset).getBigUint64(0, true));
    const header = damagedJson(original.subarray(8, 8 + size), random);
    const length = new Uint8Array(BigUint64Array.of(BigInt(header.length)).buffer);
    return Uint8Array.from([...length, ...header, ...original.subarray(8 + size)]);
  },
  read: async ({name}, bytes) => {
    const {tensors} = await readSafetensors(countedSource(name, bytes));
    for (const {dtype, readFloat32} of tensors.values()) if (/^B?F/.test(dtype)) await readFloat32();
  },
};

const hdf5: Parser = {
  name: 'hdf5',
  // Small ones, since all that is in them is read.
  seeds: seeds('hdf5', [
    'keras_float32.weights.h5', 'types.h5', 'latest.h5', 'unreadable.h5', 'chunked_latest.h5', 'links.h5', 'cycle.h5',
    'user_block_latest.h5', 'extensible_latest.h5',
  ]), // prettier-ignore
  damage: damagedBytes,
  read: async ({name}, bytes) => {
    const file = await Hdf5File.open(countedSource(name, bytes));
    for (const path of file.paths()) {
      const dataset = await Promise.resolve()
        .then(() => file.dataset(path))
        .catch(onlyThis);
      if (!dataset) continue;
      // Chunks that are missing count as zeros, of any number.
      const piece = new Uint8Array(Math.min(dataset.byteLength, 2 ** 20));
      await dataset.readInto(0, piece).catch(onlyThis);
      await file.attribute(path, 'dtype').catch(onlyThis);
    }
  },
  limit: size => 64 * size + 2 ** 26,
};

/** One dataset cannot be read; errors that are not ours are reported. */
function onlyThis(error: unknown): undefined {
  if (error instanceof Error && /cannot be read|is a damaged HDF5 file|is truncated/.test(error.message))
    return undefined;
  throw error;
}

const zip: Parser = {
  name: 'zip',
  seeds: [
    {name: 'backbone.keras', bytes: kerasFile('backbone.keras')},
    {name: 'causal_lm.keras', bytes: kerasFile('causal_lm.keras')},
    ...seeds('keras_files', ['int8.zip', 'mixed.zip']),
  ],
  damage: damagedBytes,
  read: async ({name}, bytes) => {
    const archive = await ZipFile.open(countedSource(name, bytes));
    for (const path of archive.names) {
      const file = await archive.open(path);
      if (file.size < 2 ** 20) {
        const out = new Uint8Array(file.size);
        await file.readInto(0, out);
      }
      await file.close();
    }
  },
};

const TEXTS = ['', ' Hello,  world!', '<start_of_turn>user\n\n', '日本語 🙂\u0000', '\t\t\t'];

function tokenize(proto: Uint8Array): void {
  const tokenizer = new SentencePiece(proto);
  for (const text of TEXTS) tokenizer.decode(tokenizer.encode(text));
}

const sentencePiece: Parser = {
  name: 'sentencepiece',
  seeds: [
    ...seeds('tokenizer', ['vocabulary.spm']),
    // All types of models, without the one that is large.
    ...fixtureJson<{models: {name: string; proto: string}[]}>('tokenizer/types.json')
      .models.map(({name, proto}) => ({name, bytes: new Uint8Array(Buffer.from(proto, 'base64'))}))
      .filter(({bytes}) => bytes.length < 10_000),
  ],
  damage: damagedBytes,
  read: async (_, bytes) => tokenize(bytes),
  limit: size => 64 * size + 2 ** 24,
};

const tokenizerJson: Parser = {
  name: 'tokenizer.json',
  seeds: [{name: 'tokenizer.json', bytes: shortTokenizerJson}],
  damage: damagedJson,
  read: async (_, bytes) => {
    const source = guardedPreset(new Map([['tokenizer.json', bytes]]));
    tokenize(protoOfTokenizerJson((await readJson(source, 'tokenizer.json')) as Json, 'tokenizer.json'));
  },
  budget: 300,
  limit: size => 64 * size + 2 ** 24,
};

/** The files of a folder of the fixtures, with one seed for each of its JSON files. */
function jsonSeeds(
  folder: string,
  more: Readonly<Record<string, Uint8Array>> = {},
  replaced: Readonly<Record<string, Uint8Array>> = {},
): Seed[] {
  const files = new Map<string, Uint8Array>(Object.entries(more));
  const walk = (inside: string) => {
    for (const name of fixtureNames(`${folder}/${inside}`)) {
      const path = inside ? `${inside}/${name}` : name;
      if (/\.(json|h5|safetensors|spm|model)$/.test(name)) files.set(path, fixtureBytes(`${folder}/${path}`));
      else if (!name.includes('.')) walk(path);
    }
  };
  walk('');
  files.delete('expected.json');
  for (const [path, bytes] of Object.entries(replaced)) files.set(path, bytes);
  return [...files.keys()]
    .filter(path => path.endsWith('.json') && path !== 'metadata.json')
    .map(path => ({name: path, bytes: files.get(path)!, folder: files}));
}

/** Reads all parts of a preset, and builds what needs no weights. */
async function readPreset(source: PresetSource, damaged: string): Promise<void> {
  const checkpoint = await openCheckpoint(source);
  try {
    const backbone = await checkpoint.config('backbone');
    completeConfig(camelKeys(knownConfig(backbone!.config, 'fuzzed')) as never);
    await checkpoint.config('task');
    const converter = await checkpoint.config('imageConverter');
    if (converter) await Gemma3ImageConverter.fromPreset(checkpoint);
    if (await checkpoint.hasWeights()) await (await checkpoint.weights()).close();
    // Without damage to them, vocabularies are read in the same way each time.
    if (/^(config|image_converter|model|model\.weights|model\.safetensors)\b/.test(damaged)) return;
    await Gemma3Tokenizer.fromPreset(checkpoint);
    if (await checkpoint.config('preprocessor')) await Gemma3CausalLMPreprocessor.fromPreset(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

const tiny = (name: string) => fixtureBytes(`../../presets/gemma3_tiny/${name}`);
// Read several times with each mutation.
const vocabulary = {'assets/tokenizer/vocabulary.spm': shortVocabulary};
const tinyFiles = Object.fromEntries(
  ['config.json', 'task.json', 'preprocessor.json', 'tokenizer.json', 'image_converter.json'].map(name => [
    name,
    tiny(name),
  ]),
);

/** A folder of tfjs: a manifest, and two shards. */
const tfjsFiles: Readonly<Record<string, Uint8Array>> = {
  ...tinyFiles,
  'model.json': new TextEncoder().encode(
    JSON.stringify({
      format: 'layers-model',
      modelTopology: {},
      weightsManifest: [
        {
          paths: ['group1-shard1of2', 'group1-shard2of2'],
          weights: [
            {name: 'a', shape: [4, 2], dtype: 'float32'},
            {name: 'b', shape: [8], dtype: 'int32', packed: {format: 'int8', order: 'rows', shape: [4, 4]}},
          ],
        },
      ],
    }),
  ),
  'group1-shard1of2': new Uint8Array(40),
  'group1-shard2of2': new Uint8Array(24),
};

const presetJson: Parser = {
  name: 'preset JSON',
  seeds: [
    ...Object.keys(tinyFiles).map(name => ({
      name,
      bytes: tinyFiles[name]!,
      folder: new Map(Object.entries({...tinyFiles, ...vocabulary})),
    })),
    {name: 'model.json', bytes: tfjsFiles['model.json']!, folder: new Map(Object.entries(tfjsFiles))},
    ...jsonSeeds('backbone/sharded', vocabulary).filter(({name}) => name === 'model.weights.json'),
    ...jsonSeeds('huggingface/text', {}, {'tokenizer.model': shortVocabulary}),
    ...jsonSeeds('huggingface/embedder', {}, {'tokenizer.model': shortVocabulary}),
    ...jsonSeeds('huggingface/shards', {}, {'tokenizer.json': shortTokenizerJson}).filter(
      ({name}) => name !== 'tokenizer.json',
    ),
  ],
  damage: damagedJson,
  read: async ({name, folder}, bytes) => readPreset(guardedPreset(new Map([...folder!, [name, bytes]])), name),
  budget: 400,
  limit: size => 64 * size + 2 ** 26,
};

/** What models, vocabularies and templates are made of the metadata of a file. */
const ggufModel: Parser = {
  name: 'gguf model',
  seeds: ['bare.gguf', 'embedding.gguf', 'text_q4_0.gguf'].map(name => ({name, bytes: shortGguf(name)})),
  damage: damagedBytes,
  read: async ({name}, bytes) => readPreset(guardedPreset(new Map([[name, bytes]])), name),
  budget: 300,
  limit: size => 64 * size + 2 ** 26,
};

const images: Parser = {
  name: 'images',
  seeds: [
    ...fixtureJson<{name: string; file: string}[]>('images/files.json'),
    ...fixtureJson<{name: string; file: string}[]>('images/damaged.json'),
  ].map(({name, file}) => ({name, bytes: new Uint8Array(Buffer.from(file, 'base64'))})),
  damage: damagedBytes,
  read: async (_, bytes) => {
    if (isPng(bytes)) await decodePng(bytes);
    else if (isJpeg(bytes)) decodeJpeg(bytes);
  },
  budget: 500,
  // Their own limit is one of pixels, as in Pillow: a small file may be a large image.
  limit: () => 64 * MAX_IMAGE_PIXELS,
};

/** To add one, add a line here. */
export const parsers: readonly Parser[] = [
  gguf,
  ggufModel,
  safetensors,
  hdf5,
  zip,
  sentencePiece,
  tokenizerJson,
  presetJson,
  images,
];
