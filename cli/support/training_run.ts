/** Files that a run of `gemma3 finetune` keeps next to its output: a checkpoint, a report and a loss chart. */
import {readFile, rm, stat} from 'node:fs/promises';
import {lossCurveSvg} from './loss_curve';

/** The options that must be the same to resume a run; `null` for an option that is not set. */
export type Settings = Record<string, string | number | boolean | null>;

export interface Report {
  settings: Settings;
  /** Loss of each step, starting with the first; null where it was not recorded. */
  losses: (number | null)[];
  /** For each epoch its last step, its mean loss and its validation loss. */
  epochs: {step: number; loss: number; validationLoss?: number}[];
  trainable: number;
  frozen: number;
  backend: string;
  /** Training time, including the time before the run was interrupted and resumed. */
  seconds: number;
  inputTokens: number;
  finished: boolean;
}

/** Replaces a file as a whole, so that the file at `path` is always complete. */
async function replaceFile(path: string, content: string | Uint8Array): Promise<void> {
  const {files} = await import('tfjs-gemma3');
  const file = await files.openFileTarget(path);
  try {
    await file.write(typeof content === 'string' ? new TextEncoder().encode(content) : content);
    await file.close();
  } catch (error) {
    await file.abort();
    throw error;
  }
}

/** @throws Error for a file that `RunFiles` did not write, or a damaged one. */
function parseReport(text: string, path: string): Report {
  let report: Partial<Report> | null = null;
  try {
    report = JSON.parse(text) as Partial<Report> | null;
  } catch {
    // Reported below.
  }
  const {settings, losses, epochs} = report ?? {};
  if (typeof settings === 'object' && settings && Array.isArray(losses) && Array.isArray(epochs)) {
    return report as Report;
  }
  throw new Error(
    `Expected the report of an interrupted run in "${path}". Received: other contents. The file is damaged: ` +
      'use --force to start over.',
  );
}

export const exists = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined)) !== undefined;

/** The files of a run, named after its output `NAME.lora.h5`. */
export class RunFiles {
  readonly checkpoint: string;
  readonly report: string;
  readonly chart: string;

  constructor(readonly output: string) {
    const base = output.replace(/\.lora\.h5$/, '');
    this.checkpoint = `${base}.checkpoint`;
    this.report = `${base}.report.json`;
    this.chart = `${base}.loss.svg`;
  }

  /**
   * Creates the folder and checks that it is writable, so that a failure shows before training, not after the first
   * epoch.
   *
   * @throws Error if the files cannot be written.
   */
  async prepare(): Promise<void> {
    const {output, report} = this;
    if ((await stat(output).catch(() => undefined))?.isDirectory()) {
      throw new Error(`Expected the path of a file to write. Received: "${output}", which is a folder.`);
    }
    const {files} = await import('tfjs-gemma3');
    try {
      const probe = await files.openFileTarget(report);
      await probe.abort();
    } catch (error) {
      throw new Error(
        `Expected a writable file. Received: "${output}": ${(error as Error).message}. Choose another location, or change ` +
          'the permissions of its folder.',
      );
    }
  }

  /** Writes the report before the checkpoint, so that it contains the losses of all steps up to the checkpoint. */
  async save(report: Report, state: Uint8Array): Promise<void> {
    await this.writeReport(report);
    await replaceFile(this.checkpoint, state);
  }

  async writeReport(report: Report): Promise<void> {
    const {losses, epochs, settings} = report;
    const validation = epochs.flatMap(({step, validationLoss: loss}) => (loss === undefined ? [] : [{step, loss}]));
    await replaceFile(this.report, `${JSON.stringify(report, null, 2)}\n`);
    const title = `${String(settings.preset)}, ${String(settings.data)}: loss per token`;
    await replaceFile(this.chart, lossCurveSvg({title, losses, validation}));
  }

  async finish(report: Report): Promise<void> {
    await this.writeReport(report);
    await rm(this.checkpoint, {force: true});
  }

  /**
   * Reads the files that `save` wrote.
   *
   * @throws Error if there is no run to resume, or its settings were different.
   */
  async load(settings: Settings): Promise<{state: Uint8Array; report: Report}> {
    if (!(await exists(this.checkpoint)) || !(await exists(this.report))) {
      throw new Error(
        `Expected a run to resume, in "${this.checkpoint}" and "${this.report}". Received: none. Leave out --resume to start one.`,
      );
    }
    const report = parseReport(await readFile(this.report, 'utf8'), this.report);
    const different = Object.keys({...report.settings, ...settings}).find(
      key => (report.settings[key] ?? null) !== (settings[key] ?? null),
    );
    if (different !== undefined) {
      const option = `--${different.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`;
      const shown = (value: unknown) =>
        value === null || value === undefined ? `no ${option}` : `${option} ${JSON.stringify(value)}`;
      throw new Error(
        `Expected the options that the run began with: ${shown(report.settings[different])}. ` +
          `Received: ${shown(settings[different])}.`,
      );
    }
    return {state: new Uint8Array(await readFile(this.checkpoint)), report};
  }
}
