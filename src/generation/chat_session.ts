/** A conversation with a model, whose turns stay in its session: an answer costs what is new. */
import * as tf from '@tensorflow/tfjs';
import {checkKeys, ContextFullError, ValueError} from '../base/errors';
import {checkPositiveInteger} from '../base/checks';
import {applyChatTemplate, type ChatMessage, END_OF_TURN, START_OF_TURN} from '../tokenizers/chat_template';
import {type Prompt} from './decoder';
import {GeneratedText, type TextDecoding} from './generated_text';
import {GenerationSession, type SessionArgs} from './session';

export interface ChatArgs extends Partial<SessionArgs> {
  /** What the model is told before the first turn. */
  system?: string;
}

/** Options of an answer: those of `generate` that make sense here. */
export interface ChatOptions {
  /** Tokens of an answer at most; until the session is full unless told. */
  maxNewTokens?: number;
  stopStrings?: readonly string[];
  signal?: AbortSignal;
  prefillChunk?: number;
}
const CHAT_OPTIONS = ['maxNewTokens', 'stopStrings', 'signal', 'prefillChunk'] as const;

type StepOptions = Omit<ChatOptions, 'maxNewTokens'> & {maxLength: number; session: GenerationSession<never, never>};

/** What a conversation needs of a model. */
export interface ChatModel {
  readonly preprocessor:
    | (TextDecoding & {
        readonly sequenceLength: number;
        readonly tokenizer: {
          readonly startTokenId: number;
          readonly endTokenId: number;
          tokenToId(token: string): number;
          idToToken(id: number): string;
        };
      })
    | null;
  /** A user's turn, with its images. */
  chatPrompt(text: string, images: readonly unknown[]): Promise<Prompt>;
  steps(
    prompts: readonly Prompt[],
    options: StepOptions,
    texts: readonly GeneratedText[],
  ): AsyncGenerator<(number | null)[], void>;
}

interface Turn {
  message: ChatMessage;
  /** Tokens from the end of the turn before to the end of this one's text. */
  prompt: Prompt;
}

/**
 * A conversation. Each turn becomes tokens once, the model's own as it generated them, and passes the model once: the time to
 * the first token of an answer does not grow with the turns before.
 *
 *     const chat = lm.startChat({system: 'Be brief.', maxLength: 4096});
 *     for await (const piece of chat.stream('Hi')) process.stdout.write(piece);
 *     chat.dispose();
 */
export class ChatSession {
  readonly system: string | undefined;
  private readonly session: GenerationSession<never, never>;
  private turns: Turn[] = [];

  constructor(
    private readonly model: ChatModel,
    {system, ...args}: ChatArgs = {},
  ) {
    checkKeys('startChat', {system, ...args}, ['system', 'maxLength', 'slack']);
    const {preprocessor} = model;
    if (!preprocessor) throw new ValueError('A `preprocessor` must be attached to the model for a conversation.');
    const {tokenizer} = preprocessor;
    if ([START_OF_TURN, END_OF_TURN].some(token => tokenizer.idToToken(tokenizer.tokenToId(token)) !== token)) {
      throw new ValueError(
        `Expected a vocabulary with ${START_OF_TURN} and ${END_OF_TURN}. Received: one without, of a model that knows no ` +
          'turns. Use `generate`, or an instruction-tuned preset.',
      );
    }
    // Refused here, not at the first turn.
    if (system !== undefined)
      applyChatTemplate([
        {role: 'system', content: system},
        {role: 'user', content: ''},
      ]);
    this.system = system;
    this.session = new GenerationSession(model as never, {maxLength: preprocessor.sequenceLength, ...args});
  }

  /** All turns so far, the system text first if there is one. */
  get history(): ChatMessage[] {
    const system: ChatMessage[] = this.system === undefined ? [] : [{role: 'system', content: this.system}];
    return [...system, ...this.turns.map(({message}) => message)];
  }

  /** Tokens of the conversation so far. */
  get length(): number {
    return this.turns.reduce((sum, {prompt}) => sum + prompt.tokens.length, 0);
  }

  /** Tokens that the conversation can have. */
  get maxLength(): number {
    return this.session.maxLength;
  }

  /** Tokens of the last question and all before it. */
  promptLength = 0;

  /** Tokens of the last question and all before it that the model had seen already. */
  get reused(): number {
    return this.session.reused;
  }

  /**
   * Says something and yields the answer as it comes. An answer that is left early or aborted stays as far as it came; where
   * nothing came, the question is taken back too.
   *
   * @throws ContextFullError if the conversation has no room for the question and a token of an answer; ValueError on
   * unusable messages and options; the signal's reason when aborted.
   */
  async *stream(content: ChatMessage['content'], options: ChatOptions = {}): AsyncGenerator<string, void> {
    checkKeys('A turn of a chat', options, CHAT_OPTIONS);
    const message: ChatMessage = {role: 'user', content};
    const first = this.turns.length === 0 && this.system !== undefined;
    const text = applyChatTemplate([...(first ? [{role: 'system', content: this.system!} as const] : []), message], {
      addGenerationPrompt: true,
    });
    const images =
      typeof content === 'string' ? [] : content.flatMap(part => (part.type === 'image' ? [part.image] : []));
    // The end of the answer before: it was not generated, or not added to the cache.
    const turn = await this.model.chatPrompt(this.turns.length ? `${END_OF_TURN}\n${text}` : text, images);
    if (this.turns.length && turn.tokens[0] === this.model.preprocessor!.tokenizer.startTokenId) {
      turn.tokens = turn.tokens.slice(1);
      if (turn.visionMask) turn.visionMask = turn.visionMask.slice(1);
    }
    this.turns.push({message, prompt: turn});
    try {
      yield* this.answer(options);
    } finally {
      if (this.turns.at(-1)?.message === message) this.turns.pop()!.prompt.images?.dispose();
    }
  }

  /**
   * Answers the last question anew, in place of its answer, if the model has given one.
   *
   * @throws ValueError if nothing was said yet; as `stream`.
   */
  async *regenerate(options: ChatOptions = {}): AsyncGenerator<string, void> {
    checkKeys('A turn of a chat', options, CHAT_OPTIONS);
    if (this.turns.length === 0) throw new ValueError('Expected a question to answer anew. Received: none yet.');
    const answer = this.turns.at(-1)!.message.role === 'assistant' ? this.turns.pop() : undefined;
    try {
      yield* this.answer(options);
    } finally {
      // Without a new one the old answer stays.
      if (answer && this.turns.at(-1)?.message.role !== 'assistant') this.turns.push(answer);
    }
  }

  /**
   * Says something and waits for the answer.
   *
   * @throws as `stream`.
   */
  async send(content: ChatMessage['content'], options: ChatOptions = {}): Promise<string> {
    let text = '';
    for await (const piece of this.stream(content, options)) text += piece;
    return text;
  }

  /** Begins anew: all turns are forgotten, but not the system text. */
  clear(): void {
    this.session.clear();
    this.forgetTurns();
  }

  /** Frees the memory; the conversation cannot go on afterwards. */
  dispose(): void {
    this.session.dispose();
    this.forgetTurns();
  }

  private forgetTurns(): void {
    for (const {prompt} of this.turns) prompt.images?.dispose();
    this.turns = [];
  }

  private async *answer(options: ChatOptions): AsyncGenerator<string, void> {
    const {maxNewTokens, ...rest} = options;
    if (maxNewTokens !== undefined) checkPositiveInteger('A turn of a chat', 'maxNewTokens', maxNewTokens);
    const {model, session} = this;
    const {tokenizer} = model.preprocessor!;
    const prompt = joined(this.turns.map(({prompt}) => prompt));
    const {length} = prompt.tokens;
    this.promptLength = length;
    const row = new GeneratedText(model.preprocessor!, rest.stopStrings);
    const ids: number[] = [];
    let text = '';
    let complete = false;
    try {
      if (length >= this.maxLength) throw new ContextFullError(length + 1, this.maxLength, 'conversation');
      const maxLength = Math.min(this.maxLength, length + (maxNewTokens ?? Infinity));
      for await (const [id] of model.steps([prompt], {...rest, maxLength, session}, [row])) {
        // The end of a turn belongs to the template.
        if (id == null || id === tokenizer.endTokenId || tokenizer.idToToken(id) === END_OF_TURN) continue;
        ids.push(id);
        const piece = row.push(id);
        text += piece;
        if (piece) yield piece;
      }
      const last = row.flush();
      text += last;
      complete = true;
      if (last) yield last;
    } finally {
      prompt.images?.dispose();
      if (ids.length || complete) this.turns.push({message: {role: 'assistant', content: text}, prompt: {tokens: ids}});
    }
  }
}

/** One prompt of several that follow one another; its images, if any, are a tensor of its own. */
function joined(prompts: readonly Prompt[]): Prompt {
  const images = prompts.flatMap(({images}) => (images ? [images] : []));
  return {
    tokens: prompts.flatMap(({tokens}) => [...tokens]),
    images: images.length ? tf.concat(images, 0) : null,
    visionMask: prompts.flatMap(({tokens, visionMask}) => [...(visionMask ?? tokens.map(() => false))]),
  };
}
