/** A conversation with a model in a Worker. */
import type {ChatOptions} from '../generation/chat_session';
import type {ChatMessage} from '../tokenizers/chat_template';
import type {Connection} from './connection';
import type {ChatNumbers} from './remote_options';
import {type StartStream, TextStream} from './text_stream';

/**
 * A conversation, as `ChatSession`: the Worker keeps its cache, so each answer computes only new tokens.
 *
 * @example
 * const chat = await lm.startChat({system: 'Be brief.', maxLength: 4096});
 * for await (const piece of chat.stream('Hi')) output.append(piece);
 * await chat.dispose();
 */
export class RemoteChat {
  /** @internal */
  constructor(
    private readonly connection: Connection,
    private readonly key: number,
    private numbers: ChatNumbers,
  ) {}

  /** Number of tokens in the conversation, after the last answer. */
  get length(): number {
    return this.numbers.length;
  }

  /** Largest number of tokens in the conversation. */
  get maxLength(): number {
    return this.numbers.maxLength;
  }

  /** Number of tokens in the last prompt: the last question and everything before it. */
  get promptLength(): number {
    return this.numbers.promptLength;
  }

  /** How many tokens of the last prompt were already in the cache. */
  get reused(): number {
    return this.numbers.reused;
  }

  /**
   * Asks a question and yields the answer while it is generated. If the answer is stopped, the part that was generated
   * stays in the conversation. After an abort, that is what the loop has yielded; if the loop was left early, it may
   * have yielded less, since the Worker does not wait for the page: see `history`.
   *
   * @throws as `ChatSession.stream`; WorkerEndedError if the Worker ends.
   */
  stream(content: ChatMessage['content'], options: ChatOptions = {}): TextStream {
    return this.answer(options, (own, onEvent) =>
      this.connection.start('streamAnswer', [this.key, content, {...options, ...own}], {onEvent}),
    );
  }

  /** Asks a question and waits for the whole answer. */
  async send(content: ChatMessage['content'], options: ChatOptions = {}): Promise<string> {
    let text = '';
    for await (const piece of this.stream(content, options)) text += piece;
    return text;
  }

  /** Answers the last question again; the new answer replaces the old one, if any. */
  regenerate(options: ChatOptions = {}): TextStream {
    return this.answer(options, (own, onEvent) =>
      this.connection.start('regenerateAnswer', [this.key, {...options, ...own}], {onEvent}),
    );
  }

  private answer(
    options: ChatOptions,
    start: (
      own: Pick<Parameters<StartStream>[0], 'signal' | 'onFinish'>,
      onEvent: (name: string, value: unknown) => void,
    ) => ReturnType<StartStream>,
  ): TextStream {
    return new TextStream(({onEvent, ...own}) => {
      return start(own, (name, value) => {
        if (name === 'numbers') this.numbers = value as ChatNumbers;
        else onEvent(name, value);
      });
    }, options);
  }

  /** The system text, if any, and all turns so far: `startChat({history})` starts another conversation from them. */
  async history(): Promise<ChatMessage[]> {
    return this.connection.call('chatHistory', this.key);
  }

  /** Starts over: forgets all turns, but not the system text. */
  async clear(): Promise<void> {
    this.numbers = await this.connection.call('clearChat', this.key);
  }

  /** Frees the memory; the conversation cannot be used afterwards. */
  async dispose(): Promise<void> {
    await this.connection.call('dispose', this.key);
  }
}
