/** What the two threads say to each other. An AbortSignal cannot be sent, so there is a message for it. */
import type {ChatMessage, Ending, SamplingOptions} from 'tfjs-gemma3';

export type Prompt = string | ChatMessage[];

export interface AnswerOptions extends SamplingOptions {
  maxNewTokens?: number;
}

/** To the thread of the model. `id` is a number of a request. */
export type ToModel =
  | {type: 'generate'; id: number; prompt: Prompt; options: AnswerOptions}
  | {type: 'abort'; id: number}
  | {type: 'close'};

/** From the thread of the model. */
export type FromModel =
  | {type: 'ready'; backend: string}
  | {type: 'piece'; id: number; piece: string}
  | {type: 'done'; id: number; ending: Ending}
  | {type: 'error'; id: number; message: string};
