/** Progress of a training run: one changing line on a terminal, otherwise a new line every few seconds. */
import {type Io} from './io';

/** Logs of a training step. */
export interface StepLogs {
  step: number;
  totalSteps: number;
  loss: number;
  inputTokens: number;
}

/** Seconds between two lines when stderr is not a terminal. */
const INTERVAL = 10;

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
    if (!terminal && step !== totalSteps && seconds - this.last < INTERVAL) return;
    this.last = seconds;
    const left = (seconds / this.steps) * (totalSteps - step);
    const speed = Math.round(this.tokens / seconds);
    const text =
      `step ${step}/${totalSteps}  loss ${this.mean.toFixed(4)}  ${speed} tokens/s  ` +
      (left > 0 ? `${duration(left)} left` : `done in ${duration(seconds)}`);
    this.io.stderr.write(terminal ? `\r\x1b[2K${text}` : `${text}\n`);
    this.open = terminal;
  }

  /** Prints a permanent line. */
  print(text: string): void {
    this.end();
    this.io.stderr.write(`${text}\n`);
  }

  /** Ends the changing line. */
  end(): void {
    if (this.open) this.io.stderr.write('\n');
    this.open = false;
  }
}
