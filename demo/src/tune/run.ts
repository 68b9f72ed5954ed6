/** A training run: starts, pauses, and reports progress. */
import {type FitRun, type RemoteCausalLM, type RemoteTrainingTexts} from 'tfjs-gemma3/worker';

export interface RunSettings {
  rank: number;
  rate: number;
  epochs: number;
  batchSize: number;
}

/** The state of a run. */
export interface RunProgress {
  step: number;
  totalSteps: number;
  loss: number;
  /** Remaining seconds, without pauses. */
  left: number;
}

export class TrainingRun {
  private readonly fit: FitRun;
  private before = performance.now();
  private seconds = 0;
  private stopped = false;

  private constructor(
    readonly lm: RemoteCausalLM,
    data: RemoteTrainingTexts,
    {epochs, batchSize}: RunSettings,
    onProgress: (progress: RunProgress) => void,
  ) {
    const onBatchEnd = (_: number, logs: Record<string, number> = {}) => {
      const now = performance.now();
      this.seconds += (now - this.before) / 1000;
      this.before = now;
      const {step = 0, totalSteps = 0, loss = NaN} = logs;
      onProgress({step, totalSteps, loss, left: (this.seconds / step) * (totalSteps - step)});
    };
    this.fit = lm.fit(data, {epochs, batchSize, callbacks: {onBatchEnd}});
  }

  /** Starts to train a copy of a model. */
  static async start(
    original: RemoteCausalLM,
    data: RemoteTrainingTexts,
    settings: RunSettings,
    onProgress: (progress: RunProgress) => void,
  ): Promise<TrainingRun> {
    const lm = await original.clone();
    try {
      await lm.enableLora(settings.rank);
      await lm.compile({optimizer: {className: 'AdamW', learningRate: settings.rate, globalClipNorm: 1}});
      return new TrainingRun(lm, data, settings, onProgress);
    } catch (error) {
      await lm.dispose().catch(() => {});
      throw error;
    }
  }

  /** Resolves when all steps are done, or with true when it was stopped. */
  async end(): Promise<boolean> {
    await this.fit;
    return this.stopped;
  }

  pause(): Promise<void> {
    return this.fit.pause();
  }

  resume(): void {
    this.before = performance.now();
    this.fit.resume();
  }

  stop(): void {
    this.stopped = true;
    this.fit.stop();
  }
}
