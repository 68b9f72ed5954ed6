/** Files of adapters, and merging. A page that uses none of this does not load its code. */
import {type exportGgufAdapter as ExportGguf} from './gguf_lora';
import {type loadLoraWeights as Load, type saveLoraWeights as Save} from './keras_lora';
import {type mergeLora as Merge} from './merge_lora';
import {type exportPeftAdapter as Export, type importPeftAdapter as Import} from './peft';

export type {LoraSource, LoraTarget, SaveLoraOptions} from './keras_lora';
export type {ExportGgufOptions} from './gguf_lora';
export type {ExportPeftOptions} from './peft';

export const saveLoraWeights: typeof Save = async (...args) => (await import('./keras_lora')).saveLoraWeights(...args);

export const loadLoraWeights: typeof Load = async (...args) => (await import('./keras_lora')).loadLoraWeights(...args);

export const exportGgufAdapter: typeof ExportGguf = async (...args) =>
  (await import('./gguf_lora')).exportGgufAdapter(...args);

export const exportPeftAdapter: typeof Export = async (...args) => (await import('./peft')).exportPeftAdapter(...args);

export const importPeftAdapter: typeof Import = async (...args) => (await import('./peft')).importPeftAdapter(...args);

export const mergeLora: typeof Merge = async (...args) => (await import('./merge_lora')).mergeLora(...args);
