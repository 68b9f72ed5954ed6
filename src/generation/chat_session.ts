/** A conversation with a model. A session caches its turns, so each answer computes only new tokens. */
import * as tf from '@tensorflow/tfjs';
import {checkPositiveInteger} from '../base/checks';
import {checkKeys, ContextFullError, ValueError} from '../base/errors';
import {applyChatTemplate, type ChatMessage, END_OF_TURN, START_OF_TURN, trimmed} from '../tokenizers/chat_template';
import {type Prompt} from './decoder';
import {GeneratedText, type TextDecoding} from './generated_text';
import {GenerationSession, type SessionArgs, type SessionModel} from './session';

/** Arguments of `startChat`. `maxLength` defaults to the preprocessor's sequence length. */
export interface ChatArgs extends Partial<SessionArgs> {
  /** System text, placed before the first turn. By default there is none. */
  system?: string;
}

/** Options of an answer: the options of `generate` that apply to a conversation. */
export interface ChatOptions {
  /** Largest number of tokens in an answer. By default, an answer may fill the rest of the session. */
  maxNewTokens?: number;
  /** Texts that end the answer, independent of token boundaries. The answer ends before the first of them. */
  stopStrings?: readonly string[];
  /** Stops generation: the loop throws the signal's reason. */
  signal?: AbortSignal;
  /** How many tokens of the question go through the model at once. Defaults to 512. */
  prefillChunk?: number;
}
const CHAT_OPTIONS = ['maxNewTokens', 'stopStrings', 'signal', 'prefillChunk'] as const;

type StepOptions = Omit<ChatOptions, 'maxNewTokens'> & {maxLength: number; session: GenerationSession<never, never>};

/** A model as a conversation sees it. */
export interface ChatModel extends SessionModel<never, never> {
  readonly preprocessor:
    | (TextDecoding & {
        readonly sequenceLength: number;
        readonly tokenizer: {
          readonly startTokenId: number;
          readonly endTokenId: number;
          tokenize(text: string): number[];
          tokenToId(token: string): number;
          idToToken(id: number): string;
        };
      })
    | null;
  /** Token ids of a user's turn, with its images. */
  chatPrompt(text: string, images: readonly unknown[]): Promise<Prompt>;
  steps(
    prompts: readonly Prompt[],
    options: StepOptions,
    texts: readonly GeneratedText[],
  ): AsyncGenerator<(number | null)[], void>;
}

interface Turn {
  message: ChatMessage;
  /** Tokens from the end of the previous turn to the end of this turn's text. */
  prompt: Prompt;
}

/**
 * A conversation. Each turn is tokenized once and read by the model once, so the time to the first token of an answer
 * does not grow with the conversation. An answer keeps its generated tokens, unless they have more text than it, as
 * after a stop string.
 *
 * @example
 * const chat = lm.startChat({system: 'Be brief.', maxLength: 4096});
 * for await (const piece of chat.stream('Hi')) process.stdout.write(piece);
 * chat.dispose();
 *
 * @throws ValueError on unknown or unusable arguments, for a model without a preprocessor, and for a vocabulary without
 * turn tokens.
 */
export class ChatSession {
  /** System text before the first turn, if any. */
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
        `Expected a vocabulary with ${START_OF_TURN} and ${END_OF_TURN}. Received: a vocabulary without them, of a model ` +
          'that was not trained on turns. Use `generate`, or an instruction-tuned preset.',
      );
    }
    // Fails now if the system text is unusable, not at the first turn.
    if (system !== undefined)
      applyChatTemplate([
        {role: 'system', content: system},
        {role: 'user', content: ''},
      ]);
    this.system = system;
    this.session = new GenerationSession<never, never>(model, {maxLength: preprocessor.sequenceLength, ...args});
  }

  /** The system text, if any, and all turns so far. */
  get history(): ChatMessage[] {
    const system: ChatMessage[] = this.system === undefined ? [] : [{role: 'system', content: this.system}];
    return [...system, ...this.turns.map(({message}) => message)];
  }

  /** Number of tokens in the conversation so far. */
  get length(): number {
    return this.turns.reduce((sum, {prompt}) => sum + prompt.tokens.length, 0);
  }

  /** Largest number of tokens in the conversation. */
  get maxLength(): number {
    return this.session.maxLength;
  }

  /** Number of tokens in the last prompt: the last question and everything before it. */
  promptLength = 0;

  /** How many tokens of the last prompt were already in the cache. */
  get reused(): number {
    return this.session.reused;
  }

  /**
   * Asks a question and yields the answer while it is generated. If the loop is left early or aborted, the part that
   * was generated stays in the conversation; if nothing was generated, the question is removed.
   *
   * @throws ContextFullError if the conversation with this question leaves no room for an answer within `maxLength`;
   * ValueError on unusable messages and options; the signal's reason when aborted.
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
    // Answers are kept without their end-of-turn token, so the next turn begins with it.
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
   * Answers the last question again; the new answer replaces the old one, if any.
   *
   * @throws ValueError before the first question; otherwise as `stream`.
   */
  async *regenerate(options: ChatOptions = {}): AsyncGenerator<string, void> {
    checkKeys('A turn of a chat', options, CHAT_OPTIONS);
    if (this.turns.length === 0) throw new ValueError('Expected a question to answer again. Received: none yet.');
    const answer = this.turns.at(-1)!.message.role === 'assistant' ? this.turns.pop() : undefined;
    try {
      yield* this.answer(options);
    } finally {
      // Without a new answer, the old one stays.
      if (answer && this.turns.at(-1)?.message.role !== 'assistant') this.turns.push(answer);
    }
  }

  /**
   * Asks a question and waits for the whole answer.
   *
   * @throws as `stream`.
   */
  async send(content: ChatMessage['content'], options: ChatOptions = {}): Promise<string> {
    let text = '';
    for await (const piece of this.stream(content, options)) text += piece;
    return text;
  }

  /**
   * Starts over: forgets all turns, but not the system text.
   *
   * @throws ValueError while an answer is being generated.
   */
  clear(): void {
    this.session.clear();
    this.forgetTurns();
  }

  /**
   * Frees the memory; the conversation cannot be used afterwards.
   *
   * @throws ValueError while an answer is being generated.
   */
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
        // The end-of-turn token belongs to the chat template, not to the answer. Tokens without text are no part of it.
        if (id == null || tokenizer.idToToken(id) === END_OF_TURN || model.preprocessor!.isSpecial(id)) continue;
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
      if (ids.length || complete) {
        this.turns.push({message: {role: 'assistant', content: text}, prompt: {tokens: this.answerTokens(ids, text)}});
      }
    }
  }

  /**
   * The tokens of an answer: those that were generated if they have its text. After a stop string, or if the loop was
   * left within a character, they have more; then the text is tokenized as the chat template writes it.
   */
  private answerTokens(generated: number[], text: string): number[] {
    const {preprocessor} = this.model;
    const row = new GeneratedText(preprocessor!);
    if (row.prompt(generated) + row.flush() === text) return generated;
    const {tokenizer} = preprocessor!;
    const added = [tokenizer.startTokenId, tokenizer.endTokenId];
    return tokenizer.tokenize(trimmed(text)).filter(id => !added.includes(id));
  }
}

/** Concatenates prompts into one; its images, if any, are a new tensor. */
function joined(prompts: readonly Prompt[]): Prompt {
  const images = prompts.flatMap(({images}) => (images ? [images] : []));
  return {
    tokens: prompts.flatMap(({tokens}) => [...tokens]),
    images: images.length ? tf.concat(images, 0) : null,
    visionMask: prompts.flatMap(({tokens, visionMask}) => [...(visionMask ?? tokens.map(() => false))]),
  };
}
