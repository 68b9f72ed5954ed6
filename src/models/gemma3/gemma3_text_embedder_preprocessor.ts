/** Texts to token ids for embedders. */
import * as tf from '@tensorflow/tfjs';
import {checkKeys, show, ValueError} from '../../base/errors';
import {type CheckpointLike, withCheckpoint} from '../../checkpoints/open_checkpoint';
import {checkArgument, checkArguments, checkObject} from '../../base/checks';
import {camelKeys} from '../../base/casing';
import {type PresetTarget} from '../../files/open_folder';
import {savePreset} from '../../checkpoints/keras/write_preset';
import {type TokenBatch} from './gemma3_causal_lm_preprocessor';
import {trimRoundRobin, trimWaterfall} from './parts/segments';
import {Gemma3Tokenizer} from './gemma3_tokenizer';

/** How segments share the room: token by token in turn, or the first takes what it needs. */
export type Truncation = 'round_robin' | 'waterfall';

export interface Gemma3TextEmbedderPreprocessorArgs {
  /** Strings to ids. */
  tokenizer: Gemma3Tokenizer;
  /** Length of packed sequences. Defaults to 256. */
  sequenceLength?: number;
  /** What is cut of segments that are too long together. Defaults to "round_robin". */
  truncate?: Truncation;
  /** Defaults to "gemma3_text_embedder_preprocessor". */
  name?: string;
}

/** Texts that are packed into one sequence, one behind the other: one string each, or as many of all. */
export interface Segments {
  segments: readonly (string | readonly string[])[];
}

const OWNER = 'Gemma3TextEmbedderPreprocessor';
const KNOWN = ['tokenizer', 'sequenceLength', 'truncate', 'name'] as const;

/**
 * Packs `<bos> text <eos>` for an embedder, as `keras_hub.models.Gemma3TextEmbedderPreprocessor`
 * (https://github.com/keras-team/keras-hub/tree/master/keras_hub/src/models/gemma3).
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class Gemma3TextEmbedderPreprocessor {
  readonly name: string;
  readonly tokenizer: Gemma3Tokenizer;
  readonly sequenceLength: number;
  readonly truncate: Truncation;

  constructor(args: Gemma3TextEmbedderPreprocessorArgs) {
    checkArguments(OWNER, args, KNOWN);
    if (!(args.tokenizer instanceof Gemma3Tokenizer)) {
      throw new ValueError(`${OWNER} expected a Gemma3Tokenizer as \`tokenizer\`. Received: ${show(args.tokenizer)}.`);
    }
    this.name = args.name ?? 'gemma3_text_embedder_preprocessor';
    this.tokenizer = args.tokenizer;
    this.sequenceLength = args.sequenceLength ?? 256;
    this.truncate = args.truncate ?? 'round_robin';
    checkArgument(OWNER, 'name', this.name, 'text');
    checkArgument(OWNER, 'sequenceLength', this.sequenceLength, 'size');
    if (this.truncate !== 'round_robin' && this.truncate !== 'waterfall') {
      throw new ValueError(
        `${OWNER} expected \`truncate\` to be "round_robin" or "waterfall". Received: truncate=${show(this.truncate)}.`,
      );
    }
  }

  /**
   * Token ids and which of them count: (sequenceLength) for a string, (B, sequenceLength) for several. Several segments
   * are packed as `<bos> first <eos> second <eos>`.
   *
   * @throws ValueError unless it gets a text, texts, or segments that are all one or all as many.
   */
  async call(x: string | readonly string[] | Segments): Promise<TokenBatch> {
    const {rows, scalar} = checkedRows(x);
    const {padTokenId} = this.tokenizer;
    const padded = rows.map(segments => {
      const ids = this.packedTokens(segments);
      return [...ids, ...Array.from({length: this.sequenceLength - ids.length}, () => padTokenId)];
    });
    const shape = scalar ? [this.sequenceLength] : [rows.length, this.sequenceLength];
    const ids = padded.flat();
    const kept = ids.map(id => Number(id !== padTokenId));
    return {token_ids: tf.tensor(ids, shape, 'int32'), padding_mask: tf.tensor(kept, shape, 'bool')};
  }

  /** Token ids of the segments of one sequence, cut to `sequenceLength`, without padding. */
  packedTokens(segments: readonly string[]): number[] {
    const {startTokenId, endTokenId} = this.tokenizer;
    const room = this.sequenceLength - 1 - segments.length;
    const trim = this.truncate === 'waterfall' ? trimWaterfall : trimRoundRobin;
    const trimmed = trim(
      segments.map(text => this.tokenizer.tokenize(text)),
      room,
    );
    return [startTokenId, ...trimmed.flatMap(ids => [...ids, endTokenId])].slice(0, this.sequenceLength);
  }

  /** The arguments, with the tokenizer's as they are without its vocabulary, which is a file. */
  getConfig(): Record<string, unknown> {
    return {
      name: this.name,
      tokenizer: {className: 'Gemma3Tokenizer', config: this.tokenizer.getConfig()},
      sequenceLength: this.sequenceLength,
      truncate: this.truncate,
    };
  }

  /**
   * The tokenizer of a preset, with the arguments that the preset has for embedders; those of a language model are not for
   * them.
   *
   * @throws ValueError on options that it does not have, and if files are missing or unusable.
   */
  static async fromPreset(
    preset: CheckpointLike,
    options: Pick<Gemma3TextEmbedderPreprocessorArgs, 'sequenceLength' | 'truncate'> = {},
  ): Promise<Gemma3TextEmbedderPreprocessor> {
    checkKeys('fromPreset', options, ['sequenceLength', 'truncate']);
    return withCheckpoint(preset, async checkpoint => {
      const tokenizer = await Gemma3Tokenizer.fromPreset(checkpoint);
      const saved = await checkpoint.config('preprocessor');
      // The preprocessor of another task has other arguments.
      const own = saved?.class_name === OWNER ? camelKeys(saved.config) : {};
      const {tokenizer: _t, dtype: _d, trainable: _r, configFile: _c, ...stored} = own;
      return new Gemma3TextEmbedderPreprocessor({...stored, tokenizer, ...options});
    });
  }

  /** Saves the preprocessor with its tokenizer into a preset, beside what is there, as KerasHub does. */
  async saveToPreset(target: PresetTarget): Promise<void> {
    await savePreset(target, {}, writer => writer.preprocessor(this, OWNER));
  }
}

/** Rows of segments, each a sequence. */
function checkedRows(x: string | readonly string[] | Segments): {rows: string[][]; scalar: boolean} {
  let segments: readonly unknown[] = [x];
  if (typeof x === 'object' && x !== null && !Array.isArray(x)) {
    checkObject(OWNER, x);
    checkKeys(OWNER, x, ['segments']);
    segments = [(x as Segments).segments].flat();
  }
  const columns = segments.map(segment => [segment].flat()) as string[][];
  const [first] = columns;
  if (!first?.length || !columns.flat().every(text => typeof text === 'string')) {
    throw new ValueError(`${OWNER} expected a text or texts, at least one. Received: ${show(x)}.`);
  }
  const scalar = typeof segments[0] === 'string';
  const alike = segments.every(
    (segment, i) => (typeof segment === 'string') === scalar && columns[i]!.length === first.length,
  );
  if (!alike) {
    throw new ValueError(
      `${OWNER} expected segments that are all one text or all as many. Received: ` +
        `${segments.map((segment, i) => (typeof segment === 'string' ? 'one' : `${columns[i]!.length} in a list`)).join(', ')}.`,
    );
  }
  return {rows: first.map((_, row) => columns.map(column => column[row]!)), scalar};
}
