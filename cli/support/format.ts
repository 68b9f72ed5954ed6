/** Numbers and tables for people. */

export {formatBytes} from '../../src/base/format_bytes';

export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}

/** "1 step", "2 steps". */
export function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** Rows with columns of equal width; those named in `right` are flush right. */
export function table(rows: readonly (readonly string[])[], {indent = 0, right = []}: TableOptions = {}): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join('  ');
  return rows.map(row => `${' '.repeat(indent)}${line(row)}`.trimEnd() + '\n').join('');
}

export interface TableOptions {
  /** Spaces in front of each row. */
  indent?: number;
  /** Columns that are flush right. */
  right?: readonly number[];
}
