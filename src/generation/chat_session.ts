/** A conversation with a model. A session caches its turns, so each answer computes only new tokens. */
import * as tf from '@tensorflow/tfjs';
import {checkPositiveInteger} from '../base/checks';
import {checkKeys, ContextFullError, ValueError} from '../base/errors';
import {
  applyChatTemplate,
  type ChatMessage,
  copyMessage,
  END_OF_TURN,
  trimmed,
  type TextPart,
} from '../tokenizers/chat_template';
import {answerText, checkTurnTokens, imagesOf} from '../tokenizers/conversations';
import {type Prompt} from './decoder';
import {type Ending} from './ending';
import {GeneratedText, type TextDecoding} from './generated_text';
import {checkOptions} from './option_names';
import {SAMPLING_OPTIONS, type SamplingOptions} from './samplers/sampling_options';
import {GenerationSession, type SessionArgs, type SessionModel} from './session';

/** Arguments of `startChat`. `maxLength` defaults to the preprocessor's sequence length. */
export interface ChatArgs extends Partial<SessionArgs> {
  /** System text, placed before the first turn. By default there is none. */
  system?: string;
  /** Earlier turns: alternating messages of the user and the assistant, after an optional system message. */
  history?: readonly ChatMessage[];
}

/** Options of an answer: the options of `generate` that apply to a conversation. */
export interface ChatOptions extends SamplingOptions {
  /** Largest number of tokens in an answer. By default, an answer may fill the rest of the session. */
  maxNewTokens?: number;
  /** A text that ends the answer, or several, independent of token boundaries. The answer ends before the first one. */
  stopStrings?: string | readonly string[];
  /** Stops generation: the loop throws the signal's reason. */
  signal?: AbortSignal;
  /** How many tokens of the question go through the model at once. Defaults to 512. */
  prefillChunk?: number;
  /** Called when the answer has ended, was aborted or its loop was left, with the reason and the token counts. */
  onFinish?: (ending: Ending) => void;
}
const CHAT_OPTIONS = [...['maxNewTokens', 'stopStrings', 'signal', 'prefillChunk', 'onFinish'], ...SAMPLING_OPTIONS];

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
 * does not grow with the conversation. An answer keeps its generated tokens, unless they have more text than the
 * answer, as after a stop string.
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
  /** Turns that the conversation started with, until the first question. */
  private given: ChatMessage[] = [];
  /** True while an answer is generated: no other turn may be added meanwhile. */
  private busy = false;

  constructor(
    private readonly model: ChatModel,
    {system: text, history = [], ...args}: ChatArgs = {},
  ) {
    checkKeys('startChat', args, ['system', 'history', 'maxLength', 'slack']);
    const {preprocessor} = model;
    if (!preprocessor) throw new ValueError('A `preprocessor` must be attached to the model for a conversation.');
    const {tokenizer} = preprocessor;
    checkTurnTokens(tokenizer);
    const {system, turns} = readHistory(text, history);
    this.given = turns;
    // Fails here if the system text is unusable, rather than at the first turn.
    if (system !== undefined)
      applyChatTemplate([
        {role: 'system', content: system},
        {role: 'user', content: ''},
      ]);
    this.system = system;
    this.session = new GenerationSession<never, never>(model, {maxLength: preprocessor.sequenceLength, ...args});
  }

  /** The system text, if any, and all turns so far: copies, which do not change the conversation. */
  get history(): ChatMessage[] {
    const system: ChatMessage[] =
      this.system === undefined ? [] : [copyMessage({role: 'system', content: this.system})];
    const messages = [...this.given, ...this.turns.map(({message}) => message)];
    return [...system, ...messages.map(copyMessage)];
  }

  /** Number of tokens in the conversation so far. Those of a given history count from the first question on. */
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
    yield* this.alone(() => this.ask(content, options));
  }

  private async *ask(content: ChatMessage['content'], options: ChatOptions): AsyncGenerator<string, void> {
    checkOptions('A turn of a chat', options, CHAT_OPTIONS);
    await this.readGiven();
    const {message} = await this.addQuestion(content);
    try {
      yield* this.answer(options);
    } finally {
      if (this.turns.at(-1)?.message === message) this.turns.pop()!.prompt.images?.dispose();
    }
  }

  /** Adds a user's turn. */
  private async addQuestion(content: ChatMessage['content']): Promise<Turn> {
    const question: ChatMessage = {role: 'user', content};
    const first = this.turns.length === 0 && this.system !== undefined;
    const text = applyChatTemplate([...(first ? [{role: 'system', content: this.system!} as const] : []), question], {
      addGenerationPrompt: true,
    });
    const message = copyMessage(question);
    // Answers are kept without their end-of-turn token, so the next turn begins with it.
    const prompt = await this.model.chatPrompt(
      this.turns.length ? `${END_OF_TURN}\n${text}` : text,
      imagesOf([question]),
    );
    if (this.turns.length && prompt.tokens[0] === this.model.preprocessor!.tokenizer.startTokenId) {
      prompt.tokens = prompt.tokens.slice(1);
      if (prompt.visionMask) prompt.visionMask = prompt.visionMask.slice(1);
    }
    const turn = {message, prompt};
    this.turns.push(turn);
    return turn;
  }

  /** Tokenizes the turns that the conversation started with. */
  private async readGiven(): Promise<void> {
    const {given} = this;
    try {
      for (const message of given) {
        const {role, content} = message;
        if (role === 'user') await this.addQuestion(content);
        else this.turns.push({message, prompt: {tokens: this.tokensOf(content as string)}});
      }
      this.given = [];
    } catch (error) {
      this.forgetTurns();
      this.given = given;
      throw error;
    }
  }

  /**
   * Answers the last question again; the new answer replaces the old one, if any.
   *
   * @throws ValueError before the first question; otherwise as `stream`.
   */
  async *regenerate(options: ChatOptions = {}): AsyncGenerator<string, void> {
    yield* this.alone(() => this.answerAgain(options));
  }

  private async *answerAgain(options: ChatOptions): AsyncGenerator<string, void> {
    checkOptions('A turn of a chat', options, CHAT_OPTIONS);
    await this.readGiven();
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
    this.checkIdle();
    this.session.clear();
    this.forgetTurns();
  }

  /**
   * Frees the memory; the conversation cannot be used afterwards.
   *
   * @throws ValueError while an answer is being generated.
   */
  dispose(): void {
    this.checkIdle();
    this.session.dispose();
    this.forgetTurns();
  }

  private checkIdle(): void {
    if (!this.busy) return;
    throw new ValueError(
      'This conversation is generating an answer. Wait until it ends, leave its loop, or start another conversation.',
    );
  }

  /** Runs one answer at a time. */
  private async *alone(run: () => AsyncGenerator<string, void>): AsyncGenerator<string, void> {
    this.checkIdle();
    this.busy = true;
    try {
      yield* run();
    } finally {
      this.busy = false;
    }
  }

  private forgetTurns(): void {
    for (const {prompt} of this.turns) prompt.images?.dispose();
    this.turns = [];
    this.given = [];
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
        // The end-of-turn token belongs to the chat template, not to the answer. Tokens without text are not part of
        // it.
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
   * left within a character, they have more text; then the answer is tokenized in the form in which the chat template
   * writes it.
   */
  private answerTokens(generated: number[], text: string): number[] {
    const {preprocessor} = this.model;
    const row = new GeneratedText(preprocessor!);
    if (row.prompt(generated) + row.flush() === text) return generated;
    return this.tokensOf(trimmed(text));
  }

  /** The tokens of a text within a turn. */
  private tokensOf(text: string): number[] {
    const {tokenizer} = this.model.preprocessor!;
    const added = [tokenizer.startTokenId, tokenizer.endTokenId];
    return tokenizer.tokenize(text).filter(id => !added.includes(id));
  }
}

/** Unlike other texts, a system text is not changed by the template. */
const systemText = ({content}: ChatMessage): string =>
  typeof content === 'string' ? content : content.map(part => (part as TextPart).text).join('');

/**
 * The system text and the turns of a given history.
 *
 * @throws ValueError on two system texts, on a history that ends with a question, and as `applyChatTemplate`.
 */
function readHistory(
  text: string | undefined,
  history: readonly ChatMessage[],
): {system: string | undefined; turns: ChatMessage[]} {
  if (Array.isArray(history) && history.length === 0) return {system: text, turns: []};
  applyChatTemplate(history);
  const [first] = history;
  const own = first!.role === 'system' ? systemText(first!) : undefined;
  if (own !== undefined && text !== undefined) {
    throw new ValueError(
      'Expected one system text, as `system` or as the first message of `history`. Received: both. Leave out one of them.',
    );
  }
  if (history.at(-1)!.role === 'user') {
    throw new ValueError(
      'Expected `history` to end with an answer. Received: a message of the user at its end. Pass it to `send` or ' +
        '`stream`, and leave it out here.',
    );
  }
  const turns = history
    .slice(own === undefined ? 0 : 1)
    .map(copyMessage)
    .map((message): ChatMessage => {
      // Gemma's name for the assistant is "model". `content` is a text, so that no image is dropped.
      return message.role === 'user' ? message : {role: 'assistant', content: answerText(message.content)};
    });
  return {system: own ?? text, turns};
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
