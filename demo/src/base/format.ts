/** Formats numbers for people. */
import {formatBytes} from 'tfjs-gemma3/worker';

export {formatBytes};

export const percent = (part: number, whole: number): string =>
  whole > 0 ? `${Math.floor((100 * part) / whole)} %` : '0 %';

export function formatCount(count: number): string {
  if (count < 1e6) return count.toLocaleString('en');
  const [value, unit] = count < 1e9 ? [count / 1e6, 'million'] : [count / 1e9, 'billion'];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

/** A time in seconds: "9 s", "2 min 5 s", "1 h 3 min". */
export function formatTime(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** The text of an error, without its class. */
export function messageOf(error: unknown): string {
  const {name, message} = error as Partial<Error>;
  if (name === 'QuotaExceededError') {
    return 'The browser allows this page no more space. Delete a stored model, or free space on this machine.';
  }
  return message ?? String(error);
}
