/** A cache that outlives a call: the part of a new prompt that it already holds is not computed again. */
import type * as tf from '@tensorflow/tfjs';
import {checkPositiveInteger} from '../base/checks';
import {checkKeys, ContextFullError, ValueError} from '../base/errors';
import {WeightSnapshot} from '../weights/in_use';
import {type Decoder, type Prompt} from './decoder';
import {generateSteps, type GenerationRequest, type Step} from './generation';
import {outsideImage} from './prefill';
import {aheadInSession, commonLength, type HeldToken, heldTokens, SessionCache} from './session_cache';

/** Arguments of {@link GenerationSession}. */
export interface SessionArgs {
  /** Largest number of tokens in a session, prompt and new text together. */
  maxLength: number;
  /**
   * How many tokens can always be removed from the end, for prompts that differ only there. If more must be removed,
   * the prompt is computed from the start, since blocks with a sliding window no longer have the keys. Defaults to 256.
   */
  slack?: number;
}

const SLACK = 256;

/** A model as a session sees it. */
export interface SessionModel<P, O> extends Decoder {
  generate(prompt: P, options: O): Promise<string | string[]>;
  stream(prompt: P, options: O): AsyncGenerator<string, void>;
  /** A change of these makes a cache invalid. */
  readonly weights?: readonly tf.LayerVariable[];
}

/**
 * Continues one prompt after another and computes their common beginning only once: for a growing conversation, or
 * several questions about one document. The texts are the same as without a session.
 *
 * Holds a cache of its tokens until it is disposed. The cache is valid only for the weights that computed it: when these
 * have changed, the next prompt is computed from the start.
 *
 * @example
 * const session = lm.startSession({maxLength: 4096});
 * await session.generate(document + question);
 * await session.generate(document + anotherQuestion);
 * session.dispose();
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class GenerationSession<P = string, O extends object = object> {
  /** Largest number of tokens in the session. */
  readonly maxLength: number;
  /** How many tokens of the last prompt were already in the cache. */
  reused = 0;
  private slack: number;
  private cache: SessionCache | null = null;
  /** The weights that computed the cache. */
  private snapshot: WeightSnapshot | null = null;
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

  /** Number of tokens in the cache. The last token of a text is not among them: the model has not read it yet. */
  get length(): number {
    return this.cache?.rows[0]!.length ?? 0;
  }

  /**
   * Generates as the model's `generate` does, for one prompt.
   *
   * @throws ContextFullError if the prompt is longer than `maxLength`; otherwise as the model's `generate`.
   */
  async generate(prompt: P, options?: O): Promise<string> {
    return (await this.model.generate(prompt, {...(options as O), session: this})) as string;
  }

  /**
   * Streams as the model's `stream` does.
   *
   * @throws as `generate`.
   */
  stream(prompt: P, options?: O): AsyncGenerator<string, void> {
    return this.model.stream(prompt, {...(options as O), session: this});
  }

  /**
   * A separate session with the same tokens, for several continuations of one text.
   *
   * @throws ValueError while a text is being generated.
   */
  fork(): GenerationSession<P, O> {
    this.checkIdle();
    const copy = new GenerationSession<P, O>(this.model, {maxLength: this.maxLength, slack: this.slack});
    copy.cache = this.cache?.copy() ?? null;
    copy.snapshot = this.snapshot;
    return copy;
  }

  /**
   * Forgets all tokens and frees their memory.
   *
   * @throws ValueError while a text is being generated.
   */
  clear(): void {
    this.checkIdle();
    this.cache?.inner.dispose();
    this.cache = null;
    this.snapshot = null;
  }

  /**
   * Frees the memory; the session cannot be used afterwards.
   *
   * @throws ValueError while a text is being generated.
   */
  dispose(): void {
    if (this.disposed) return;
    this.clear();
    this.disposed = true;
  }

  /**
   * Checks that `model` can continue `prompts` in this session.
   *
   * @throws ValueError for a session of another model, for several prompts, for a `maxLength` above the session's, or
   * while a text is being generated; ContextFullError for a prompt that does not fit.
   */
  check(model: object, prompts: readonly Prompt[], maxLength: number): void {
    if (model !== this.model) {
      throw new ValueError(
        'Expected a session of this model. Received: a session of another model, with a cache that its weights ' +
          'computed. Call `startSession` on this model.',
      );
    }
    this.checkIdle();
    const [prompt] = prompts;
    if (prompts.length !== 1 || !prompt) {
      throw new ValueError(
        `A session continues one prompt. Received: ${prompts.length} prompts. Use one session per prompt.`,
      );
    }
    if (prompt.tokens.length > this.maxLength) throw new ContextFullError(prompt.tokens.length, this.maxLength);
    if (maxLength > this.maxLength) {
      throw new ValueError(
        `Expected maxLength to be at most ${this.maxLength}, the length of the session. Received: ${maxLength}.`,
      );
    }
  }

  /** Runs a request for one prompt on the session's cache. */
  async *steps(request: GenerationRequest): AsyncGenerator<Step, void> {
    yield* generateSteps(await this.decoder(request.prompts[0]!), request);
  }

  /** The model with the session's cache as its only cache. */
  private async decoder(prompt: Prompt): Promise<Decoder<SessionCache>> {
    const held = await heldTokens(prompt);
    const {model} = this;
    return {
      newCache: (batch, maxLength, slack = 0) => this.open(prompt, held, {batch, maxLength, slack}),
      encodeImages: images => model.encodeImages(images),
      hiddenStates: (tokens, cache) => cache.add(tokens, inner => model.hiddenStates(tokens, inner)),
      ...(model.hiddenSteps && {
        hiddenSteps: (tokens, cache) => cache.addSteps(tokens, inner => model.hiddenSteps!(tokens, inner)),
      }),
      ...(model.encodeSteps && {encodeSteps: images => model.encodeSteps!(images)}),
      logits: hidden => model.logits(hidden),
      finalStates: hidden => model.finalStates(hidden),
      tokensAhead: (choice, rows) => {
        const ahead = model.tokensAhead?.(choice, rows);
        return ahead && aheadInSession(ahead);
      },
    };
  }

  /**
   * The cache, cut to the beginning that it shares with the prompt. The prompt's last token is never part of it: the
   * model must read that token to compute the next logits.
   */
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
    if (slack > this.slack || this.cache?.broken || this.snapshot?.changed) this.clear();
    this.slack = Math.max(this.slack, slack);
    this.cache ??= new SessionCache(this.model.newCache(1, this.maxLength, this.slack), [[]]);
    this.snapshot ??= new WeightSnapshot(() => this.model.weights ?? []);
    const {cache} = this;
    // Samplers that follow several continuations leave one row per continuation.
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
        'This session is generating a text. Wait until it ends, leave its loop, or use another session.',
      );
    }
  }
}
