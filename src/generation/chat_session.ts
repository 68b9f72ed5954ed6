/** A conversation with a model. Its turns stay in a session, so an answer costs only its new tokens. */
import * as tf from '@tensorflow/tfjs';
import {checkKeys, ContextFullError, ValueError} from '../base/errors';
import {checkPositiveInteger} from '../base/checks';
import {applyChatTemplate, type ChatMessage, END_OF_TURN, START_OF_TURN} from '../tokenizers/chat_template';
import {type Prompt} from './decoder';
import {GeneratedText, type TextDecoding} from './generated_text';
import {GenerationSession, type SessionArgs, type SessionModel} from './session';

export interface ChatArgs extends Partial<SessionArgs> {
  /** System text, placed before the first turn. */
  system?: string;
}

/** Options of an answer: the options of `generate` that apply to a conversation. */
export interface ChatOptions {
  /** Largest number of tokens of an answer. By default until the session is full. */
  maxNewTokens?: number;
  stopStrings?: readonly string[];
  signal?: AbortSignal;
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
 * A conversation. Each turn is tokenized once (an answer keeps its generated tokens) and read by the model once, so the
 * time to the first token of an answer does not grow with the conversation.
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

  /** All turns so far, after the system text, if any. */
  get history(): ChatMessage[] {
    const system: ChatMessage[] = this.system === undefined ? [] : [{role: 'system', content: this.system}];
    return [...system, ...this.turns.map(({message}) => message)];
  }

  /** Number of tokens of the conversation so far. */
  get length(): number {
    return this.turns.reduce((sum, {prompt}) => sum + prompt.tokens.length, 0);
  }

  /** Largest number of tokens of the conversation. */
  get maxLength(): number {
    return this.session.maxLength;
  }

  /** Number of tokens of the last question and everything before it. */
  promptLength = 0;

  /** How many of these tokens the model had already read. */
  get reused(): number {
    return this.session.reused;
  }

  /**
   * Asks a question and yields the answer while it is generated. If the loop is left early or aborted, the part that
   * was generated stays in the conversation; if there is none, the question is removed as well.
   *
   * @throws ContextFullError if the question and one token of an answer exceed `maxLength`; ValueError on unusable
   * messages and options; the signal's reason when aborted.
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
    // Begins with the end of the previous answer, which was not generated, or is not in the cache.
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
      // Without a new answer the old one stays.
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

  /** Starts over: forgets all turns, but not the system text. */
  clear(): void {
    this.session.clear();
    this.forgetTurns();
  }

  /** Frees the memory; the conversation cannot be used afterwards. */
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

/** Concatenates prompts into one; its images, if any, are a new tensor. */
function joined(prompts: readonly Prompt[]): Prompt {
  const images = prompts.flatMap(({images}) => (images ? [images] : []));
  return {
    tokens: prompts.flatMap(({tokens}) => [...tokens]),
    images: images.length ? tf.concat(images, 0) : null,
    visionMask: prompts.flatMap(({tokens, visionMask}) => [...(visionMask ?? tokens.map(() => false))]),
  };
}
