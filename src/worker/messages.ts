/** The messages between a page and its Worker. Types only. */
import type {ErrorMessage} from './error_messages';

/** The position of a function or a signal: the number of the argument, then names of properties. */
export type Place = readonly (string | number)[];

/** Commands for a run of `fit`. */
export type Control = 'pause' | 'resume' | 'stop';

/** From the page. `id` is the number of the call. */
export type ToWorker =
  | {gemma3: 'call'; id: number; name: string; args: unknown[]; callbacks: Place[]; signals: Place[]}
  | {gemma3: 'abort'; id: number}
  | {gemma3: 'control'; id: number; control: Control};

/** From the Worker. */
export type FromWorker =
  | {gemma3: 'started'; lock: string | undefined}
  /** A callback of the arguments is to be called. */
  | {gemma3: 'callback'; id: number; index: number; values: unknown[]}
  /** Anything else that a call reports before its end. */
  | {gemma3: 'event'; id: number; name: string; value: unknown}
  | {gemma3: 'result'; id: number; value: unknown}
  | {gemma3: 'error'; id: number; error: ErrorMessage}
  /** The call has ended because it was aborted. The page knows the reason. */
  | {gemma3: 'aborted'; id: number};

/** Whether a message is one of these. A program may send its own messages as well. */
export const isOurs = (data: unknown): boolean => typeof data === 'object' && data !== null && 'gemma3' in data;
