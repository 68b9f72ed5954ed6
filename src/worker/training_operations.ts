/** LoRA and training in the Worker. */
import {type EnableLoraOptions} from '../adapters/model_lora';
import {type ExportPeftOptions, type SaveLoraOptions} from '../adapters/on_demand';
import {ValueError} from '../base/errors';
import {MemoryFile, MemoryPreset} from '../files/memory';
import {type TrainingTexts} from '../training/examples';
import {type FitCallbacks} from '../training/fit_options';
import * as optimizers from '../training/optimizers';
import {type Conversations} from '../tokenizers/conversations';
import {type CallContext} from './call_context';
import {lmOf, presetOf} from './received';
import {
  type FitHistory,
  type RemoteCompileArgs,
  type RemoteFitArgs,
  type RemoteOptimizer,
  type RemoteRate,
} from './remote_options';
import {type PresetMessage, type WorkerFile} from './sources';

/** Texts to train on: whole ones, prompts with responses, or conversations. */
export type RemoteTrainingTexts = string | readonly string[] | TrainingTexts | Conversations;

function rateOf(rate: RemoteRate): number | optimizers.LearningRateSchedule {
  if (typeof rate === 'number') return rate;
  const {schedule, ...args} = rate;
  if (schedule === 'CosineDecay') return new optimizers.CosineDecay(args);
  if (schedule === 'PolynomialDecay') return new optimizers.PolynomialDecay(args);
  throw new ValueError(
    `Expected \`schedule\` as "CosineDecay" or "PolynomialDecay". Received: ${JSON.stringify(schedule)}.`,
  );
}

function optimizerOf({className, learningRate, ...args}: RemoteOptimizer): optimizers.Optimizer {
  const all = {...args, ...(learningRate !== undefined && {learningRate: rateOf(learningRate)})};
  if (className === 'Adam') return new optimizers.Adam(all);
  if (className === 'AdamW') return new optimizers.AdamW(all);
  if (className === 'SGD') return new optimizers.SGD(all);
  throw new ValueError(
    `Expected \`optimizer\` as a name, or with \`className\` "Adam", "AdamW" or "SGD". Received: ${JSON.stringify(className)}.`,
  );
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

export const training = {
  async compile(context: CallContext, key: number, {optimizer, ...args}: RemoteCompileArgs): Promise<void> {
    const lm = lmOf(context, key);
    if (!isObject(optimizer)) {
      lm.compile({...args, ...(optimizer !== undefined && {optimizer})});
      context.store.own(lm, undefined);
      return;
    }
    const created = optimizerOf(optimizer);
    try {
      lm.compile({...args, optimizer: created});
    } catch (error) {
      created.dispose();
      throw error;
    }
    // A model disposes only optimizers that it has created.
    context.store.own(lm, created);
  },

  async enableLora(context: CallContext, key: number, rank: number, options: EnableLoraOptions): Promise<void> {
    lmOf(context, key).backbone.enableLora(rank, options);
  },

  async mergeLora(context: CallContext, key: number): Promise<void> {
    await lmOf(context, key).backbone.mergeLora();
  },

  async fit(context: CallContext, key: number, x: RemoteTrainingTexts, args: RemoteFitArgs): Promise<FitHistory> {
    const lm = lmOf(context, key);
    const {callbacks = {}, ...rest} = args;
    const controls = {
      async onBatchEnd() {
        if (await context.turn()) lm.stopTraining = true;
      },
    };
    const {epoch, history} = await lm.fit(x as TrainingTexts, {
      ...rest,
      callbacks: [callbacks, controls] as FitCallbacks,
    });
    return {epoch, history: history as Record<string, number[]>};
  },

  async saveTrainingState(context: CallContext, key: number): Promise<Uint8Array<ArrayBuffer>> {
    return lmOf(context, key).saveTrainingState();
  },

  async saveLora(context: CallContext, key: number, options: SaveLoraOptions): Promise<Uint8Array<ArrayBuffer>> {
    const file = new MemoryFile('adapter.lora.h5');
    await lmOf(context, key).backbone.saveLoraWeights(file, options);
    return file.bytes;
  },

  async loadLora(context: CallContext, key: number, source: WorkerFile): Promise<void> {
    await lmOf(context, key).backbone.loadLoraWeights(source);
  },

  async exportPeft(
    context: CallContext,
    key: number,
    options: ExportPeftOptions,
  ): Promise<Record<string, Uint8Array<ArrayBuffer>>> {
    const folder = new MemoryPreset();
    await lmOf(context, key).backbone.exportPeftAdapter(folder, options);
    return Object.fromEntries([...folder.files].map(([name, bytes]) => [name, bytes.slice()]));
  },

  async importPeft(context: CallContext, key: number, source: PresetMessage): Promise<void> {
    await lmOf(context, key).backbone.importPeftAdapter(presetOf(source));
  },
};
