/** Failures, as one line on stderr. */
import {type Io} from './io';

/** What to do, where the error comes from Node and does not say it. */
function advice(error: NodeJS.ErrnoException): string {
  const missing = /Cannot find package '([^']+)'/.exec(error.message)?.[1];
  if (missing) return `The package ${missing} is not installed: run "npm install ${missing}".`;
  // Node's words for it are "fetch failed".
  const {cause} = error;
  if (error instanceof TypeError && cause instanceof Error)
    return `${error.message}: ${cause.message || String(cause)}`;
  return error.message || error.name;
}

/** Says what went wrong. Where it went wrong is for those who set `GEMMA3_DEBUG`. */
export function report(error: unknown, io: Pick<Io, 'stderr' | 'debug'>): void {
  const text = error instanceof Error ? advice(error) : String(error);
  io.stderr.write(`error: ${text.replace(/\s*\n\s*/g, ' ')}\n`);
  if (io.debug && error instanceof Error && error.stack) io.stderr.write(`${error.stack}\n`);
}
