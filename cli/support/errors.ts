/** Errors, reported as one line on stderr. */
import {type Io} from './io';

/** The message of an error, or a better one if Node's message does not say what to do. */
function messageOf(error: NodeJS.ErrnoException): string {
  const missing = /Cannot find package '([^']+)'/.exec(error.message)?.[1];
  if (missing) return `The package ${missing} is not installed. Run "npm install ${missing}".`;
  // Node says only "fetch failed" and hides the reason in `cause`.
  const {cause} = error;
  if (error instanceof TypeError && cause instanceof Error)
    return `${error.message}: ${cause.message || String(cause)}`;
  return error.message || error.name;
}

/** Prints the message of an error, and its stack if `GEMMA3_DEBUG` is set. */
export function report(error: unknown, io: Pick<Io, 'stderr' | 'debug'>): void {
  const text = error instanceof Error ? messageOf(error) : String(error);
  io.stderr.write(`error: ${text.replace(/\s*\n\s*/g, ' ')}\n`);
  if (io.debug && error instanceof Error && error.stack) io.stderr.write(`${error.stack}\n`);
}
