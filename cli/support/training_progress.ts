/** How far a training is: a line that changes on a terminal, a line now and then elsewhere. */
import {type Io} from './io';

/** What a step tells. */
export interface StepLogs {
  step: number;
  totalSteps: number;
  loss: number;
  inputTokens: number;
}

/** Seconds between two lines that stay. */
const BETWEEN = 10;

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export class TrainingProgress {
  private readonly started = performance.now();
  private last = -Infinity;
  private tokens = 0;
  private steps = 0;
  private mean: number | undefined;
  private open = false;

  constructor(private readonly io: Io) {}

  step({step, totalSteps, loss, inputTokens}: StepLogs): void {
    this.tokens += inputTokens;
    this.steps += 1;
    this.mean = this.mean === undefined ? loss : this.mean + 0.1 * (loss - this.mean);
    const seconds = (performance.now() - this.started) / 1000;
    const terminal = this.io.stderr.isTTY ?? false;
    if (!terminal && step !== totalSteps && seconds - this.last < BETWEEN) return;
    this.last = seconds;
    const left = (seconds / this.steps) * (totalSteps - step);
    const speed = Math.round(this.tokens / seconds);
    const text =
      `step ${step}/${totalSteps}  loss ${this.mean.toFixed(4)}  ${speed} tokens/s  ` +
      (left > 0 ? `${duration(left)} left` : `done in ${duration(seconds)}`);
    this.io.stderr.write(terminal ? `\r\x1b[2K${text}` : `${text}\n`);
    this.open = terminal;
  }

  /** A line that stays. */
  say(text: string): void {
    this.end();
    this.io.stderr.write(`${text}\n`);
  }

  /** Leaves the line that changes. */
  end(): void {
    if (this.open) this.io.stderr.write('\n');
    this.open = false;
  }
}
