/** What a run of `gemma3 finetune` keeps on disk beside its result: checkpoints, and a report with a picture. */
import {randomUUID} from 'node:crypto';
import {mkdir, readFile, rename, rm, stat, writeFile} from 'node:fs/promises';
import {dirname} from 'node:path';
import {lossCurveSvg} from './loss_curve';

/** What must be the same for a run to go on; `null` where the option was left out. */
export type Settings = Record<string, string | number | boolean | null>;

export interface Report {
  settings: Settings;
  /** Of each step, from the first. */
  losses: (number | null)[];
  /** Loss of each epoch, and of its validation. */
  epochs: {step: number; loss: number; validationLoss?: number}[];
  trainable: number;
  frozen: number;
  backend: string;
  /** Of all parts of the run together. */
  seconds: number;
  inputTokens: number;
  finished: boolean;
}

/** Writes beside, then into place: what is there is always whole. */
async function replaceFile(path: string, content: string | Uint8Array): Promise<void> {
  const aside = `${path}.${randomUUID().slice(0, 8)}`;
  try {
    await writeFile(aside, content);
    await rename(aside, path);
  } catch (error) {
    await rm(aside, {force: true});
    throw error;
  }
}

export const exists = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined)) !== undefined;

/** Files of a run that are named after its result: `NAME.lora.h5`. */
export class RunFiles {
  readonly checkpoint: string;
  readonly report: string;
  readonly picture: string;

  constructor(readonly output: string) {
    const base = output.replace(/\.lora\.h5$/, '');
    this.checkpoint = `${base}.checkpoint`;
    this.report = `${base}.report.json`;
    this.picture = `${base}.loss.svg`;
  }

  /**
   * Makes the folder that they are in, and a file there that goes again: told at once, not behind the first epoch.
   *
   * @throws Error where they cannot be.
   */
  async prepare(): Promise<void> {
    const {output, report} = this;
    if ((await stat(output).catch(() => undefined))?.isDirectory()) {
      throw new Error(`Expected the name of a file to write. Received: "${output}", which is a folder.`);
    }
    const probe = `${report}.${randomUUID().slice(0, 8)}`;
    try {
      await mkdir(dirname(output), {recursive: true});
      await writeFile(probe, '');
      await rm(probe);
    } catch (error) {
      throw new Error(
        `Expected a file that can be written. Received: "${output}": ${(error as Error).message}. Choose another place, ` +
          'or change the permissions of its folder.',
      );
    }
  }

  /** The report goes first: a run goes on from the checkpoint, and finds all losses up to it there. */
  async save(report: Report, state: Uint8Array): Promise<void> {
    await this.writeReport(report);
    await replaceFile(this.checkpoint, state);
  }

  async writeReport(report: Report): Promise<void> {
    const {losses, epochs, settings} = report;
    const validation = epochs.flatMap(({step, validationLoss: loss}) => (loss === undefined ? [] : [{step, loss}]));
    await replaceFile(this.report, `${JSON.stringify(report, null, 2)}\n`);
    const title = `${String(settings.preset)}, ${String(settings.data)}: loss per token`;
    await replaceFile(this.picture, lossCurveSvg({title, losses, validation}));
  }

  async finish(report: Report): Promise<void> {
    await this.writeReport(report);
    await rm(this.checkpoint, {force: true});
  }

  /**
   * What `save` kept.
   *
   * @throws Error if there is nothing, or a run with other settings.
   */
  async load(settings: Settings): Promise<{state: Uint8Array; report: Report}> {
    if (!(await exists(this.checkpoint)) || !(await exists(this.report))) {
      throw new Error(
        `Expected a run to go on with, in "${this.checkpoint}" and "${this.report}". Received: none. Leave out --resume.`,
      );
    }
    const report = JSON.parse(await readFile(this.report, 'utf8')) as Report;
    const different = Object.keys({...report.settings, ...settings}).find(
      key => report.settings[key] !== settings[key],
    );
    if (different !== undefined) {
      const option = `--${different.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`;
      const shown = (value: unknown) => (value === null || value === undefined ? 'left out' : JSON.stringify(value));
      throw new Error(
        `Expected the run to go on as it began, with ${option} ${shown(report.settings[different])}. ` +
          `Received: ${shown(settings[different])}.`,
      );
    }
    return {state: new Uint8Array(await readFile(this.checkpoint)), report};
  }
}
