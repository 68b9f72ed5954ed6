/** What a command has of the process; tests give their own. */
import {type Readable, type Writable} from 'node:stream';
import {type Interrupts} from './interrupts';

export interface Io {
  readonly stdin: Readable & {isTTY?: boolean};
  readonly stdout: Writable & {isTTY?: boolean};
  readonly stderr: Writable & {isTTY?: boolean};
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** For commands that Ctrl-C does not end at once. */
  readonly interrupts: Interrupts;
  /** Show where errors come from. */
  readonly debug: boolean;
}

/** 128 + the number of SIGINT, as shells have it. */
export const EXIT = {done: 0, failed: 1, usage: 2, interrupted: 130} as const;

export function printJson(io: Io, value: object): void {
  io.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
