#!/usr/bin/env node
/** The command `gemma3`: connects the process to `main`. */
import module from 'node:module';
import {main} from './main';
import {report} from './support/errors';
import {Interrupts} from './support/interrupts';
import {EXIT, type Io} from './support/io';

// The next call then starts without compiling TensorFlow.js and the library, which `main` imports when it needs them.
// Node 20 has no such cache.
(module as {enableCompileCache?(): unknown}).enableCompileCache?.();

const interrupts = new Interrupts();
const io: Io = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  signal: interrupts.signal,
  interrupts,
  debug: Boolean(process.env.GEMMA3_DEBUG),
};

/** The exit code of a command that was interrupted. */
let interrupted: number = EXIT.interrupted;
process.on('SIGINT', () => {
  // A second Ctrl-C does not wait for the current step to finish.
  if (interrupts.signal.aborted) process.exit(interrupted);
  interrupts.press();
});
// The command ends as after Ctrl-C: it removes unfinished files, and training saves its state.
process.on('SIGTERM', () => {
  if (interrupts.signal.aborted) process.exit(interrupted);
  interrupted = EXIT.terminated;
  interrupts.terminate();
});
// In `gemma3 … | head -1` the reader closes the pipe early, which is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.success);
  report(error, io);
  process.exit(EXIT.failure);
});
process.stderr.on('error', () => {});
for (const event of ['unhandledRejection', 'uncaughtException']) {
  process.on(event, (error: unknown) => {
    report(error, io);
    process.exit(EXIT.failure);
  });
}

void main(process.argv.slice(2), io).then(code => {
  process.exitCode = code === EXIT.interrupted ? interrupted : code;
});
