/** A cache that outlives a call: what a new prompt has in common with what it holds is not computed again. */
import {checkKeys, ContextFullError, ValueError} from '../base/errors';
import {checkPositiveInteger} from '../base/checks';
import {type Decoder, type Prompt} from './decoder';
import {outsideImage} from './prefill';
import {commonLength, type HeldToken, heldTokens, SessionCache} from './session_cache';

export interface SessionArgs {
  /** Tokens that a session holds at most, prompt and new text together. */
  maxLength: number;
  /**
   * Tokens that can be taken back at any length, for prompts that differ near the end. A longer way back is computed from the
   * start, since blocks with a window keep no more. Defaults to 256.
   */
  slack?: number;
}

const SLACK = 256;

/** What a session needs of a model. */
export interface SessionModel<P, O> extends Decoder {
  generate(prompt: P, options: O): Promise<string | string[]>;
  stream(prompt: P, options: O): AsyncGenerator<string, void>;
}

/**
 * Continues one prompt after another with what they have in common computed once: a conversation that grows, a document with
 * several questions. Texts are those that the model gives without a session.
 *
 *     const session = lm.startSession({maxLength: 4096});
 *     await session.generate(document + question);
 *     await session.generate(document + another);
 *     session.dispose();
 *
 * Holds a cache for `maxLength` tokens until it is disposed. What it holds is of the weights as they were: `clear` it when they
 * change.
 */
export class GenerationSession<P = string, O extends object = object> {
  readonly maxLength: number;
  /** How many tokens of the last prompt were there already. */
  reused = 0;
  private slack: number;
  private cache: SessionCache | null = null;
  private inUse = false;
  private disposed = false;

  constructor(
    private readonly model: SessionModel<P, O & {session: GenerationSession<P, O>}>,
    args: SessionArgs,
  ) {
    checkKeys('GenerationSession', args, ['maxLength', 'slack']);
    checkPositiveInteger('GenerationSession', 'maxLength', args.maxLength);
    if (args.slack !== undefined && args.slack !== 0) checkPositiveInteger('GenerationSession', 'slack', args.slack);
    this.maxLength = args.maxLength;
    this.slack = args.slack ?? SLACK;
  }

  /** Tokens that the session holds. The last one of a text is not among them: the model has not seen it. */
  get length(): number {
    return this.cache?.rows[0]!.length ?? 0;
  }

  /**
   * As the model's `generate`, for one prompt.
   *
   * @throws ContextFullError if the prompt is longer than `maxLength`; as the model's `generate`.
   */
  async generate(prompt: P, options?: O): Promise<string> {
    return (await this.model.generate(prompt, {...(options as O), session: this})) as string;
  }

  /**
   * As the model's `stream`.
   *
   * @throws as `generate`.
   */
  stream(prompt: P, options?: O): AsyncGenerator<string, void> {
    return this.model.stream(prompt, {...(options as O), session: this});
  }

  /**
   * A session of its own that holds the same: for several continuations of one text.
   *
   * @throws ValueError while a text is under way.
   */
  fork(): GenerationSession<P, O> {
    this.checkIdle();
    const twin = new GenerationSession<P, O>(this.model, {maxLength: this.maxLength, slack: this.slack});
    twin.cache = this.cache?.copy() ?? null;
    return twin;
  }

  /**
   * Forgets all tokens, and frees the memory for them.
   *
   * @throws ValueError while a text is under way.
   */
  clear(): void {
    this.checkIdle();
    this.cache?.inner.dispose();
    this.cache = null;
  }

  /** Frees the memory; the session cannot be used afterwards. */
  dispose(): void {
    if (this.disposed) return;
    this.clear();
    this.disposed = true;
  }

  /**
   * @throws ContextFullError or ValueError unless the session is one of this model, and has room for one prompt that grows to
   * this length.
   */
  check(model: object, prompts: readonly Prompt[], maxLength: number): void {
    if (model !== this.model) {
      throw new ValueError(
        'Expected a session of this model. Received: one of another, whose weights made what it holds. Call ' +
          '`startSession` on this model.',
      );
    }
    this.checkIdle();
    const [prompt] = prompts;
    if (prompts.length !== 1 || !prompt) {
      throw new ValueError(
        `A session continues one prompt. Received: ${prompts.length} prompts. Use a session for each.`,
      );
    }
    if (prompt.tokens.length > this.maxLength) throw new ContextFullError(prompt.tokens.length, this.maxLength);
    if (maxLength > this.maxLength) {
      throw new ValueError(
        `Expected maxLength to be at most ${this.maxLength}, which the session was made for. Received: ${maxLength}.`,
      );
    }
  }

  /** The model as the loop of generation needs it, with the session's cache as the only one. */
  async decoder(prompt: Prompt): Promise<Decoder<SessionCache>> {
    const held = await heldTokens(prompt);
    const {model} = this;
    return {
      newCache: (batch, maxLength, slack = 0) => this.open(prompt, held, {batch, maxLength, slack}),
      encodeImages: images => model.encodeImages(images),
      hiddenStates: (tokens, cache) => cache.add(tokens, inner => model.hiddenStates(tokens, inner)),
      logits: hidden => model.logits(hidden),
      finalStates: hidden => model.finalStates(hidden),
    };
  }

  /** The cache with what it has of this prompt, but for its last token, whose logits are wanted. */
  private open(
    prompt: Prompt,
    held: readonly HeldToken[],
    {batch, maxLength, slack}: {batch: number; maxLength: number; slack: number},
  ): SessionCache {
    this.check(
      this.model,
      Array.from({length: batch}, () => prompt),
      maxLength,
    );
    if (slack > this.slack || this.cache?.broken) this.clear();
    this.slack = Math.max(this.slack, slack);
    this.cache ??= new SessionCache(this.model.newCache(1, this.maxLength, this.slack), [[]]);
    const {cache} = this;
    // Samplers that follow several continuations leave a row for each.
    const common = cache.rows.map(row => commonLength(row, held));
    const best = common.indexOf(Math.max(...common));
    cache.select([best]);
    const wanted = outsideImage(prompt, Math.min(common[best]!, held.length - 1));
    this.reused = cache.canTruncate([wanted]) ? wanted : 0;
    cache.truncate([this.reused]);
    cache.prompt = held;
    cache.onDispose = () => (this.inUse = false);
    this.inUse = true;
    return cache;
  }

  private checkIdle(): void {
    if (this.disposed) throw new ValueError('This session was disposed. Start another one.');
    if (this.inUse) {
      throw new ValueError(
        'This session has a text under way. Wait for its end, leave its loop, or use another session beside it.',
      );
    }
  }
}
