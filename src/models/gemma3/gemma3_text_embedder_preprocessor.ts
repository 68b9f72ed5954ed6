/** Turns texts into token ids for embedders. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument, checkArguments, checkObject} from '../../base/checks';
import {checkKeys, describeNotA, show, ValueError} from '../../base/errors';
import {type CheckpointLike, splitOpening, withCheckpoint} from '../../checkpoints/open_checkpoint';
import {FETCH_OPTIONS, type FetchOptions} from '../../files/http_client';
import {defined} from '../../layers/arguments';
import {registerPresetClass} from '../preset_classes';
import {TextEmbedderPreprocessor} from '../text_embedder_preprocessor';
import {type TokenBatch} from './gemma3_causal_lm_preprocessor';
import {Gemma3Tokenizer} from './gemma3_tokenizer';
import {trimRoundRobin, trimWaterfall} from './parts/segments';
import {storedArguments} from './parts/stored_arguments';

/** How segments share the sequence: alternately one token of each, or first all of the first segment, then the next. */
export type Truncation = 'round_robin' | 'waterfall';

/** Arguments of {@link Gemma3TextEmbedderPreprocessor}. */
export interface Gemma3TextEmbedderPreprocessorArgs {
  /** Turns strings into token ids. */
  tokenizer: Gemma3Tokenizer;
  /** Length of the token sequences. Defaults to 256. */
  sequenceLength?: number;
  /** How segments are cut if together they are too long. Defaults to "round_robin". */
  truncate?: Truncation;
  /** Name of the preprocessor. Defaults to "gemma3_text_embedder_preprocessor". */
  name?: string;
}

/** Texts to be concatenated into one sequence: one string each, or lists of the same length. */
export interface Segments {
  segments: readonly (string | readonly string[])[];
}

const OWNER = 'Gemma3TextEmbedderPreprocessor';
const KNOWN = ['tokenizer', 'sequenceLength', 'truncate', 'name'] as const;

/**
 * Builds the sequence `<bos> text <eos>` for an embedder, as `keras_hub.models.Gemma3TextEmbedderPreprocessor`
 * (https://github.com/keras-team/keras-hub/tree/master/keras_hub/src/models/gemma3).
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class Gemma3TextEmbedderPreprocessor extends TextEmbedderPreprocessor {
  /** @nocollapse */
  static override className = OWNER;
  readonly name: string;
  readonly tokenizer: Gemma3Tokenizer;
  readonly truncate: Truncation;

  constructor(args: Gemma3TextEmbedderPreprocessorArgs) {
    checkArguments(OWNER, args, KNOWN);
    super();
    if (!(args.tokenizer instanceof Gemma3Tokenizer)) {
      throw new ValueError(
        `${OWNER} expected a Gemma3Tokenizer as \`tokenizer\`. Received: ${describeNotA(Gemma3Tokenizer, args.tokenizer)}.`,
      );
    }
    this.name = args.name ?? 'gemma3_text_embedder_preprocessor';
    this.tokenizer = args.tokenizer;
    this.sequenceLength = args.sequenceLength ?? 256;
    this.truncate = args.truncate ?? 'round_robin';
    checkArgument(OWNER, 'name', this.name, 'text');
    if (this.truncate !== 'round_robin' && this.truncate !== 'waterfall') {
      throw new ValueError(
        `${OWNER} expected \`truncate\` to be "round_robin" or "waterfall". Received: truncate=${show(this.truncate)}.`,
      );
    }
  }

  /**
   * Token ids and their padding mask: (sequenceLength) for a string, (B, sequenceLength) for several. Several segments
   * become `<bos> first <eos> second <eos>`.
   *
   * @throws ValueError unless `x` is a text, a list of texts, or segments that are all strings or all lists of one
   * length.
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
    const limit = this.sequenceLength - 1 - segments.length;
    const trim = this.truncate === 'waterfall' ? trimWaterfall : trimRoundRobin;
    const trimmed = trim(
      segments.map(text => this.tokenizer.tokenize(text)),
      limit,
    );
    return [startTokenId, ...trimmed.flatMap(ids => [...ids, endTokenId])].slice(0, this.sequenceLength);
  }

  getConfig(): Record<string, unknown> {
    return {
      name: this.name,
      tokenizer: {className: 'Gemma3Tokenizer', config: this.tokenizer.getConfig()},
      sequenceLength: this.sequenceLength,
      truncate: this.truncate,
    };
  }

  /**
   * Creates a preprocessor from a result of `getConfig` or a configuration of KerasHub. Its tokenizer has no vocabulary
   * yet: see `loadPresetAssets`.
   *
   * @throws ValueError on any other configuration.
   */
  static fromConfig(config: object): Gemma3TextEmbedderPreprocessor {
    const {rest, tokenizer} = storedArguments(config);
    return new Gemma3TextEmbedderPreprocessor({...rest, tokenizer: Gemma3Tokenizer.fromConfig(tokenizer)});
  }

  /**
   * Loads the preprocessor of a preset. If the preset was saved for another task, only its tokenizer is used.
   *
   * @param options arguments that override those of the preset.
   * @throws ValueError on unknown or unusable options, and if files are missing or unusable.
   */
  static override async fromPreset(
    preset: CheckpointLike,
    options: Partial<Gemma3TextEmbedderPreprocessorArgs> & FetchOptions = {},
  ): Promise<Gemma3TextEmbedderPreprocessor> {
    checkKeys('fromPreset', options, [...KNOWN, ...FETCH_OPTIONS]);
    const {opening, rest} = splitOpening(options);
    const given = defined(rest);
    return withCheckpoint(
      preset,
      async checkpoint => {
        const tokenizer = given.tokenizer ?? (await Gemma3Tokenizer.fromPreset(checkpoint));
        const saved = await checkpoint.config('preprocessor');
        // The preprocessor of another task has other arguments.
        const stored = saved?.class_name === OWNER ? storedArguments(saved.config).rest : {};
        return new Gemma3TextEmbedderPreprocessor({...stored, ...given, tokenizer});
      },
      opening,
    );
  }
}
registerPresetClass(Gemma3TextEmbedderPreprocessor, 'Gemma3Backbone');

/** The segments of each row. */
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
    throw new ValueError(`${OWNER} expected a text or a list of texts, at least one. Received: ${show(x)}.`);
  }
  const scalar = typeof segments[0] === 'string';
  const alike = segments.every(
    (segment, i) => (typeof segment === 'string') === scalar && columns[i]!.length === first.length,
  );
  if (!alike) {
    throw new ValueError(
      `${OWNER} expected segments that are all strings, or all lists of the same length. Received: ` +
        `${segments.map((segment, i) => (typeof segment === 'string' ? 'a string' : `a list of ${columns[i]!.length}`)).join(', ')}.`,
    );
  }
  return {rows: first.map((_, row) => columns.map(column => column[row]!)), scalar};
}
