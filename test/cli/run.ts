/** Runs the command in this process. */
import {PassThrough, Readable, Writable} from 'node:stream';
import {main} from '../../cli/main';
import {Interrupts} from '../../cli/support/interrupts';

export interface RunOptions {
  /** What stdin holds; undefined for a terminal. */
  stdin?: string;
  /** Whether stderr is a terminal. */
  terminal?: boolean;
  signal?: AbortSignal;
  interrupts?: Interrupts;
  /** A terminal that lines are typed into. */
  keyboard?: Readable;
  debug?: boolean;
  /** Called after each write to stdout. */
  onText?: (piece: string) => void;
}

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
  /** Stdout as it was written. */
  pieces: string[];
}

function collector(pieces: string[], onText?: (piece: string) => void): Writable {
  return new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, callback) {
      pieces.push(chunk);
      onText?.(chunk);
      callback();
    },
  });
}

export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Result> {
  const out: string[] = [];
  const err: string[] = [];
  const stdin =
    options.stdin === undefined
      ? Object.assign(options.keyboard ?? new PassThrough(), {isTTY: true})
      : Readable.from([options.stdin]);
  const interrupts = options.interrupts ?? new Interrupts();
  const code = await main(argv, {
    stdin,
    stdout: collector(out, options.onText),
    stderr: Object.assign(collector(err), {isTTY: options.terminal ?? false}),
    signal: options.signal ?? interrupts.signal,
    interrupts,
    debug: options.debug ?? false,
  });
  return {code, stdout: out.join(''), stderr: err.join(''), pieces: out};
}

export const TINY = 'gemma3_tiny';
