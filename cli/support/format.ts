/** Numbers, tables and endings as text. */
import type {Ending} from 'tfjs-gemma3';

export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}

/** "1 step", "2 steps". */
export function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** Formats rows as lines of aligned columns. */
export function table(rows: readonly (readonly string[])[], {indent = 0, right = []}: TableOptions = {}): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join('  ');
  return rows.map(row => `${' '.repeat(indent)}${line(row)}`.trimEnd() + '\n').join('');
}

export interface TableOptions {
  /** Spaces before each row. */
  indent?: number;
  /** Indices of right-aligned columns. */
  right?: readonly number[];
}

const REASONS = {
  stop: 'at the end of the text, of a turn or at a stop text',
  length: 'at the maximum length',
  aborted: 'when it was interrupted',
} as const;

/** How a text ended, in one line. */
export const describeEnding = ({finishReason, usage: {promptTokens, newTokens}}: Ending): string =>
  `Ended ${REASONS[finishReason]} (${finishReason}): ${plural(promptTokens, 'token')} in the prompt, ` +
  `${plural(newTokens, 'new token')}.`;
