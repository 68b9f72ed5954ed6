/** The parts of the process that commands use. Tests pass their own. */
import {type Readable, type Writable} from 'node:stream';
import {type Interrupts} from './interrupts';

export interface Io {
  readonly stdin: Readable & {isTTY?: boolean};
  readonly stdout: Writable & {isTTY?: boolean};
  readonly stderr: Writable & {isTTY?: boolean};
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  /** For commands that handle Ctrl-C themselves. */
  readonly interrupts: Interrupts;
  /** Whether to print the stack of errors. */
  readonly debug: boolean;
}

/** Exit codes. As in shells, a command that a signal ended exits with 128 + the number of the signal. */
export const EXIT = {success: 0, failure: 1, usage: 2, interrupted: 130, terminated: 143} as const;

export function printJson(io: Io, value: object): void {
  io.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
