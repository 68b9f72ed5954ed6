/**
 * Which class a preset is for: the `fromPreset` of a base class, such as `Backbone`, calls that of the subclass which
 * fits the preset. Subclasses register here, because base classes cannot import them.
 */
import {describeValue, ValueError} from '../base/errors';
import {type Checkpoint, type CheckpointPart} from '../checkpoints/checkpoint';
import {
  type CheckpointLike,
  type CheckpointOptions,
  splitOpening,
  withCheckpoint,
} from '../checkpoints/open_checkpoint';
import {registeredPreset} from '../hub/registry';

/** Options that base classes pass on: the arguments of the subclass override the preset's configuration. */
export type PresetOptions = Readonly<Record<string, unknown>>;

/** A class that can be loaded from a preset. */
interface PresetClass<T> {
  readonly className: string;
  readonly prototype: T;
  fromPreset(preset: CheckpointLike, options?: object): Promise<T>;
}

interface Registered {
  /** The class, and the Keras name of its backbone. */
  readonly cls: PresetClass<object>;
  readonly backbone: string;
}

const registered: Registered[] = [];

/** Registers a class for presets whose backbone has this Keras name. */
export function registerPresetClass(cls: PresetClass<object>, backbone: string): void {
  registered.push({cls, backbone});
}

/** A base class as `loadFromBase` sees it. */
interface BaseClass<T> {
  readonly className: string;
  readonly prototype: T;
}

/** The part of a preset that tells as which of several subclasses it was saved. */
interface Choice {
  readonly part: CheckpointPart;
  /** What to do if the preset does not tell. */
  readonly advice: string;
}

/**
 * Loads an instance of the subclass of `base` that fits a preset.
 *
 * @param choice for base classes with several subclasses for one backbone.
 * @throws ValueError, naming the preset's kind and the known classes, if none fits; otherwise as the `fromPreset` of
 * the subclass.
 */
export async function loadFromBase<T extends object>(
  base: BaseClass<T>,
  preset: CheckpointLike,
  options: PresetOptions,
  choice?: Choice,
): Promise<T> {
  const nameOnly = options.loadWeights === false && typeof preset === 'string' && registeredPreset(preset);
  if (nameOnly) {
    const cls = oneOf(base, subclassesOf(base, 'Gemma3Backbone'), undefined, preset, choice);
    return cls.fromPreset(preset, options);
  }
  const {opening, rest} = splitOpening<PresetOptions & CheckpointOptions>(options);
  const signal = rest.signal instanceof AbortSignal ? rest.signal : undefined;
  const load = async (checkpoint: Checkpoint) => {
    const found = subclassesOf(base, await backboneOf(base, checkpoint));
    const saved = choice && found.length > 1 ? await checkpoint.config(choice.part) : null;
    const cls = oneOf(base, found, saved?.class_name, checkpoint.name, choice);
    // These do not use a vision encoder.
    if (opening.mmproj !== undefined && /Tokenizer|Embedder/.test(cls.className)) {
      throw new ValueError(`${cls.className}.fromPreset has no argument "mmproj".`);
    }
    return cls.fromPreset(checkpoint, rest);
  };
  return withCheckpoint(preset, load, {...opening, signal});
}

const subclassesOf = <T extends object>(base: BaseClass<T>, backbone: string): PresetClass<T>[] =>
  registered
    .filter(one => one.backbone === backbone && base.prototype.isPrototypeOf(one.cls.prototype))
    .map(({cls}) => cls as PresetClass<T>);

/** The class of the preset's backbone. */
async function backboneOf<T extends object>({className}: BaseClass<T>, checkpoint: Checkpoint): Promise<string> {
  const {class_name: found} = (await checkpoint.config('backbone'))!;
  const known = [...new Set(registered.map(({backbone}) => backbone))];
  // In a bundle without any subclass no class is known: the error of `oneOf` then says what to do.
  if (known.includes(found) || known.length === 0) return found;
  throw new ValueError(
    `${className}.fromPreset expected a preset with one of these backbones: ${known.join(', ')}. ` +
      `Received: "${checkpoint.name}", a preset with a ${found}, which this package does not have.`,
  );
}

function oneOf<T extends object>(
  {className}: BaseClass<T>,
  found: readonly PresetClass<T>[],
  saved: string | undefined,
  name: string,
  choice: Choice | undefined,
): PresetClass<T> {
  const cls = found.length === 1 ? found[0] : found.find(one => one.className === saved);
  if (cls) return cls;
  if (found.length === 0) {
    throw new ValueError(
      `${className}.fromPreset expected a subclass for "${name}". Received a bundle without one: bundlers leave out ` +
        'classes that a program does not name. Call `fromPreset` of the subclass, such as Gemma3CausalLM.',
    );
  }
  const names = found.map(one => one.className).join(', ');
  throw new ValueError(
    `${className}.fromPreset expected a preset that says which ${className} it holds${names && `: ${names}`}. ` +
      `Received: "${name}"${saved === undefined ? '' : `, with a ${describeValue(saved)}`}.` +
      (choice ? ` ${choice.advice}` : ''),
  );
}
