/** The conversation in the Worker: kept as long as it continues, and restarted from its history after a change. */
import {type RemoteCausalLM, type RemoteChat} from 'tfjs-gemma3/worker';
import {type Conversation, type Message} from '../base/database';
import {type AnswerOptions} from './settings';

type Turn = NonNullable<NonNullable<Parameters<RemoteCausalLM['startChat']>[0]>['history']>[number];
type Content = Turn['content'];

/** A question as the model gets it: its pictures first. */
const contentOf = ({text, pictures = []}: Message): Content =>
  pictures.length === 0 ? text : [...pictures.map(image => ({type: 'image', image}) as const), {type: 'text', text}];

export interface Answer {
  text: string;
  numbers: NonNullable<Message['numbers']>;
}

export interface AskOptions {
  lm: RemoteCausalLM;
  by: string;
  options: AnswerOptions;
  maxLength: number | undefined;
  signal: AbortSignal;
  /** Called with the whole text so far. */
  onText: (text: string) => void;
}

export class Talk {
  private chat: RemoteChat | undefined;
  /** The messages that the chat in the Worker has. */
  private told: {lm: RemoteCausalLM; text: string} | undefined;

  /** Tokens in the conversation, and how many there may be. */
  get context(): {length: number; maxLength: number} | undefined {
    return this.chat && {length: this.chat.length, maxLength: this.chat.maxLength};
  }

  /** Forgets the conversation in the Worker. */
  async end(): Promise<void> {
    const {chat} = this;
    this.chat = this.told = undefined;
    await chat?.dispose().catch(() => {});
  }

  /**
   * Answers the last message of a conversation. A stopped answer is an answer.
   *
   * @throws what the model throws.
   */
  async ask({id, system, messages}: Conversation, ask: AskOptions): Promise<Answer> {
    const {lm, by, options, maxLength, signal, onText} = ask;
    const [earlier, question] = [messages.slice(0, -1), messages.at(-1)!];
    const text = this.textOf(id, system, earlier, maxLength);
    if (this.told?.lm !== lm || this.told.text !== text) {
      await this.end();
      const history = earlier.map(({role, ...rest}) => ({
        role,
        content: role === 'user' ? contentOf({role, ...rest}) : rest.text,
      }));
      this.chat = await lm.startChat({
        ...(system.trim() && {system}),
        ...(history.length > 0 && {history}),
        ...(maxLength !== undefined && {maxLength}),
      });
    }
    this.told = undefined;
    let answer = '';
    let first = 0;
    const stream = this.chat!.stream(contentOf(question), {...options, signal});
    try {
      for await (const piece of stream) {
        first ||= performance.now();
        onText((answer += piece));
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    const {finishReason = 'aborted', usage} = stream.ending ?? {};
    const numbers = {
      tokens: usage?.newTokens ?? 0,
      seconds: first ? (performance.now() - first) / 1000 : 0,
      reason: finishReason,
      by,
    };
    if (answer !== '') {
      this.told = {lm, text: this.textOf(id, system, [...messages, {role: 'assistant', text: answer}], maxLength)};
    }
    return {text: answer, numbers};
  }

  private textOf(id: string, system: string, messages: readonly Message[], maxLength: number | undefined): string {
    const texts = messages.map(({role, text, pictures = []}) => [role, text, pictures.map(({size}) => size)]);
    return JSON.stringify([id, system, maxLength, texts]);
  }
}
