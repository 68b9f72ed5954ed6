/** Runs programs that the set-up needs. */
import {spawn} from 'node:child_process';

export interface Finished {
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  signal?: AbortSignal;
  /** Whether the program writes to the terminal of this process itself, as for its progress. */
  shown?: boolean;
  cwd?: string;
}

/** Runs a program to its end. A program that does not exist, or is not allowed, ends with the code 127. */
export type Run = (program: string, args: readonly string[], options?: RunOptions) => Promise<Finished>;

export const run: Run = (program, args, {signal, shown = false, cwd} = {}) =>
  new Promise((resolve, reject) => {
    const output = shown ? ('inherit' as const) : ('pipe' as const);
    const child = spawn(program, args, {cwd, signal, stdio: ['ignore', shown ? 2 : output, output]});
    let [stdout, stderr] = ['', ''];
    child.stdout?.setEncoding('utf8').on('data', text => (stdout += text as string));
    child.stderr?.setEncoding('utf8').on('data', text => (stderr += text as string));
    child.on('error', error => {
      if (signal?.aborted) reject(error);
      else resolve({code: 127, stdout, stderr: error.message});
    });
    child.on('close', code => {
      if (signal?.aborted) reject(signal.reason as Error);
      else resolve({code: code ?? 1, stdout, stderr});
    });
  });

/** The last lines that a program has written, in one line. */
export const endOf = ({stdout, stderr}: Finished, lines = 4): string =>
  (stderr.trim() || stdout.trim()).split('\n').slice(-lines).join(' ').replace(/\s+/g, ' ');
