/** Guesses of a smaller model, for speculative decoding. */
import type * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../../base/errors';
import {type Decoder, type DecoderCache, nextLogits} from '../decoder';
import {bestColumn} from '../../ops/sampling';
import {type Generation} from '../generation';
import {unusableLogits} from './checked_tokens';

/** A smaller model that guesses tokens: a `CausalLM`. */
export interface DraftModel extends Decoder {
  readonly preprocessor?: {readonly tokenizer: object} | null;
}

const sameVocabulary = new WeakMap<object, WeakSet<object>>();

/** @throws ValueError if a token id has different meanings in the two models. */
function checkVocabulary(model: Decoder, draft: DraftModel): void {
  type Tokenizer = {getVocabulary?(): string[]};
  const [own, other] = [model as DraftModel, draft].map(({preprocessor}) => preprocessor?.tokenizer as Tokenizer);
  if (!own?.getVocabulary || !other?.getVocabulary || own === other || sameVocabulary.get(own)?.has(other)) return;
  const [expected, received] = [own.getVocabulary(), other.getVocabulary()];
  const differs = expected.findIndex((piece, id) => piece !== received[id]);
  if (expected.length !== received.length || differs >= 0) {
    const at = differs >= 0 ? differs : expected.length;
    throw new ValueError(
      `Expected a draft with the vocabulary of the model, ${expected.length} tokens. Received: ${received.length} tokens, ` +
        `with ${show(received[at])} instead of ${show(expected[at])} as token ${at}. ` +
        'Use a smaller model of the same family.',
    );
  }
  sameVocabulary.set(own, (sameVocabulary.get(own) ?? new WeakSet()).add(other));
}

/** Guesses the draft model's most probable tokens, one after another. */
export class DraftedByModel {
  private constructor(
    private readonly generation: Generation,
    private readonly model: DraftModel,
    private readonly cache: DecoderCache,
    private readonly vocabularySize: number,
  ) {}

  /**
   * Reads the prompts with the draft model.
   *
   * @throws ValueError if a token id has different meanings in the two models.
   */
  static async read(generation: Generation, model: DraftModel, slack: number): Promise<DraftedByModel> {
    checkVocabulary(generation.decoder, model);
    const cache = generation.newCache(slack, model);
    try {
      const logits = await generation.readPrompts(cache, {decoder: model});
      logits.dispose();
      return new DraftedByModel(generation, model, cache, logits.shape[1]);
    } catch (error) {
      cache.dispose();
      throw error;
    }
  }

  check({shape}: tf.Tensor2D): void {
    if (shape[1] === this.vocabularySize) return;
    throw new ValueError(
      `Expected a draft with logits of ${shape[1]} tokens, like the model. Received: ${this.vocabularySize} tokens. ` +
        'Use a smaller model of the same family.',
    );
  }

  async draft(counts: readonly number[]): Promise<number[][]> {
    const {cache, model, generation} = this;
    const {rows} = generation;
    // Removes rejected guesses from the cache. The tokens accepted instead are read with the first guess below.
    cache.truncate(rows.map(({tokens}, row) => Math.min(cache.lengths[row]!, tokens.length - 1)));
    const guesses: number[][] = rows.map(() => []);
    for (let t = 0; t < Math.max(...counts); t++) {
      const unread = rows.map(({tokens}, row) =>
        t < counts[row]! ? [...tokens, ...guesses[row]!].slice(cache.lengths[row]!) : [],
      );
      const length = Math.max(...unread.map(({length}) => length));
      const padded = unread.map(row => [...row, ...Array<number>(length - row.length).fill(0)]);
      const logits = nextLogits(model, {rows: padded, counts: unread.map(({length}) => length)}, cache);
      try {
        const tokens = await this.best(logits);
        unread.forEach((row, i) => row.length && guesses[i]!.push(tokens[i]!));
      } finally {
        logits.dispose();
      }
    }
    return guesses;
  }

  private async best(logits: tf.Tensor2D): Promise<ArrayLike<number>> {
    const best = bestColumn(logits);
    const tokens = await best.data();
    best.dispose();
    if (tokens.includes(-1)) throw await unusableLogits(logits, 'the draft');
    return tokens;
  }

  dispose(): void {
    this.cache.dispose();
  }
}
