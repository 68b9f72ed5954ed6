/** Options of the `fromPreset` of tasks. */
import {checkKeys, ValueError} from '../base/errors';
import {type CheckpointOptions, splitOpening} from '../checkpoints/open_checkpoint';
import {defined} from '../layers/arguments';
import {FROM_PRESET_OPTIONS, type FromPresetOptions} from './backbone';

/** Options of the `fromPreset` of a task: how to load its backbone, and arguments of the task. */
export interface TaskOptions<B, P> extends FromPresetOptions {
  /** A backbone to use instead of the preset's. It keeps its weights. */
  backbone?: B;
  /** A preprocessor to use instead of the preset's. Null: the model takes token ids. */
  preprocessor?: P | null;
  /** Name of the model. */
  name?: string;
}

/**
 * Checks the options of a task's `fromPreset` and returns those that are given, in three groups: for the backbone, for
 * opening the preset, and for the task.
 *
 * @param own further arguments of the task.
 * @param ofBackbone the arguments of its backbone, which are not options here.
 * @param without options that mean nothing for this task.
 * @throws ValueError on unknown options, and on options for loading a backbone together with a backbone.
 */
export function taskOptions<O extends TaskOptions<unknown, unknown>>(
  owner: string,
  options: O,
  own: readonly string[],
  ofBackbone: readonly string[],
  without: readonly string[] = [],
): {
  loading: FromPresetOptions;
  opening: CheckpointOptions & {signal?: AbortSignal};
  args: Partial<Omit<O, keyof FromPresetOptions>>;
} {
  const known = [...FROM_PRESET_OPTIONS, 'backbone', 'preprocessor', 'name', ...own].filter(
    key => !without.includes(key),
  );
  const misplaced = Object.keys(options).filter(key => ofBackbone.includes(key) && !known.includes(key));
  if (misplaced.length) {
    throw new ValueError(
      `${owner}.fromPreset has no arguments of the backbone. Received: ${misplaced.join(', ')}. Load the backbone with ` +
        'them, and pass it: {backbone: await Gemma3Backbone.fromPreset(preset, {…})}.',
    );
  }
  checkKeys('fromPreset', options, known);
  const {opening, rest} = splitOpening(defined(options) as O);
  const {loadWeights, weights, dtype, onProgress, signal, ...args} = rest;
  const loading = defined({loadWeights, weights, dtype, onProgress, signal});
  const unused = Object.keys(loading).filter(key => key !== 'signal');
  if (args.backbone !== undefined && unused.length) {
    throw new ValueError(
      `${owner}.fromPreset expected either a \`backbone\` or options for loading one. Received both: ` +
        `backbone and ${unused.join(', ')}.`,
    );
  }
  return {
    loading,
    opening: {...opening, ...defined({signal})},
    args: args as Partial<Omit<O, keyof FromPresetOptions>>,
  };
}
