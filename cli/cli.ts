#!/usr/bin/env node
/** The command `gemma3`: joins the process to `main`. */
import {main} from './main';
import {report} from './support/errors';
import {Interrupts} from './support/interrupts';
import {EXIT, type Io} from './support/io';

const interrupts = new Interrupts();
const io: Io = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  signal: interrupts.signal,
  interrupts,
  debug: Boolean(process.env.GEMMA3_DEBUG),
};

process.on('SIGINT', () => {
  // Whoever presses it again does not want to wait for the end of a step.
  if (interrupts.signal.aborted) process.exit(EXIT.interrupted);
  interrupts.press();
});
// `gemma3 … | head -1`: the reader has what it wanted.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.done);
  report(error, io);
  process.exit(EXIT.failed);
});
process.stderr.on('error', () => {});
for (const event of ['unhandledRejection', 'uncaughtException']) {
  process.on(event, (error: unknown) => {
    report(error, io);
    process.exit(EXIT.failed);
  });
}

void main(process.argv.slice(2), io).then(code => {
  process.exitCode = code;
});
