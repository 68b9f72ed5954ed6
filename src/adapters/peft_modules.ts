/**
 * Modules that the settings of a PEFT adapter name. PEFT matches the names that the modules had in training, which are
 * those of the adapter's tensors; another version of transformers may have had others when the settings were written.
 */
import {show, ValueError} from '../base/errors';
import {translatePattern} from '../base/python_regexp';
import {type LoraLayer} from '../layers/lora';
import {type PeftSelection} from './peft_config';

/** The layers of a model by the names that Hugging Face's transformers library gives them. */
export interface ModuleNames {
  /** Layers that PEFT can adapt, by the names of their modules. */
  readonly modules: ReadonlyMap<string, LoraLayer>;
  /** A module's name in `modules`, from its name in any version of transformers. */
  current(name: string): string;
  /** A module's names in all versions of transformers, from its name in any version. */
  all(name: string): readonly string[];
}

type Fits = (name: string) => boolean;

/**
 * Values of `rank_pattern` or `alpha_pattern` by the name of a module in the file. As in PEFT, the first pattern that
 * matches the whole name, or its end after a dot, is used. A pattern that matches no name of the adapter is tried on
 * the names of other versions of transformers.
 *
 * @throws ValueError on a pattern that JavaScript cannot express, or that matches no module of the model.
 */
export function patternValues(
  key: string,
  patterns: Readonly<Record<string, number>>,
  file: string,
  adapted: readonly string[],
  {modules, all}: ModuleNames,
): (name: string) => number | undefined {
  const rules = Object.entries(patterns).map(([pattern, value]) => {
    const received = `Received: ${show(pattern)}`;
    const source = translatePattern(pattern);
    if (source === undefined) {
      throw new ValueError(
        `"${file}" expected the patterns of \`${key}\` to be expressions that JavaScript can read as Python does. ` +
          `${received}. Write the names of the modules instead.`,
      );
    }
    const regExp = new RegExp(`^(?:.*\\.)?(?:${source})$`);
    const inFile: Fits = name => regExp.test(name);
    const inAnyVersion: Fits = name => all(name).some(inFile);
    const literal = adapted.some(inFile);
    if (!literal && ![...modules.keys()].some(inAnyVersion)) {
      throw new ValueError(
        `"${file}" expected the patterns of \`${key}\` to match modules of the model, such as ` +
          `${show(adapted[0])}. ${received}, which matches none. Correct it, or remove it if it is for another model.`,
      );
    }
    return {fits: literal ? inFile : inAnyVersion, value};
  });
  return name => rules.find(({fits}) => fits(name))?.value;
}

/**
 * Names or ends of names, or a pattern of whole names. A pattern that JavaScript cannot express matches nothing and
 * excludes nothing.
 */
function listFits(list: string | readonly string[], unreadable: boolean): Fits {
  if (typeof list !== 'string') return name => list.some(end => name === end || name.endsWith(`.${end}`));
  const source = translatePattern(list);
  if (source === undefined) return () => unreadable;
  const regExp = new RegExp(`^(?:${source})$`);
  return name => regExp.test(name);
}

/** Indices of layers: the first number in a name, or the one after `layers_pattern`. */
function layersFit({layers, layersPattern}: PeftSelection): Fits {
  const sources = layersPattern.length === 0 ? ['[^.]*'] : layersPattern.map(translatePattern);
  if (layers.length === 0 || sources.includes(undefined)) return () => true;
  const before = layersPattern.length === 0 ? '.*?\\.' : '(?:^|.*?\\.)';
  const regExps = sources.map(source => new RegExp(`^${before}(?:${source})\\.(?<layerIndex>\\d+)\\.`));
  return name => {
    const match = regExps.map(regExp => regExp.exec(name)).find(found => found !== null);
    return match !== undefined && layers.includes(Number(match.groups!.layerIndex));
  };
}

/**
 * Whether PEFT adapts a module, by its name in the file. PEFT silently leaves out the matrices of other modules, so an
 * adapter that has them contradicts itself.
 */
export function selects(selection: PeftSelection, {all}: ModuleNames): Fits {
  const {target, exclude} = selection;
  const targeted: Fits = target === null || target === 'all-linear' ? () => true : listFits(target, true);
  const excluded: Fits = exclude === null ? () => false : listFits(exclude, false);
  const inLayers = layersFit(selection);
  const selected: Fits = name => {
    if (excluded(name) || !targeted(name)) return false;
    // A whole name counts in any layer, and so does a pattern.
    return typeof target === 'string' || (target?.includes(name) ?? false) || inLayers(name);
  };
  return name => [name, ...all(name)].some(selected);
}
