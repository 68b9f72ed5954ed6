/** Resolves what calls refer to in the Worker: models by their keys, and presets. */
import {describeValue, ValueError} from '../base/errors';
import {BlobPreset} from '../files/blob';
import {DirectoryHandlePreset} from '../files/directory_handle';
import {type PresetLike} from '../hub/open_preset';
import {Gemma3CausalLM} from '../models/gemma3/gemma3_causal_lm';
import {type CallContext} from './call_context';
import {type PresetMessage} from './sources';

/** A language model by its key. */
export const lmOf = ({store}: CallContext, key: number): Gemma3CausalLM => store.get(key, Gemma3CausalLM);

/** @throws ValueError for a model without a preprocessor. */
export function preprocessorOf(model: Gemma3CausalLM) {
  if (model.preprocessor) return model.preprocessor;
  throw new ValueError(
    'A `preprocessor` must be attached to the model to tokenize text. Load a preset with a tokenizer.',
  );
}

/** A file that was chosen in a folder. Its copy in the Worker has lost its path. */
const placed = ({path, file}: {path: string; file: Blob}) =>
  Object.defineProperty(file, 'webkitRelativePath', {value: path}) as File;

/** @throws ValueError on anything but a preset. */
export function presetOf(message: PresetMessage): PresetLike {
  if (typeof message === 'string' || message instanceof Blob) return message;
  if (typeof message === 'object' && message !== null) {
    if ('list' in message) return new BlobPreset(message.list.map(placed));
    if ('files' in message) return new BlobPreset(message.files);
    if (message.kind === 'directory') return new DirectoryHandlePreset(message);
  }
  throw new ValueError(
    'Expected a preset as a name, an address, a File, the files of a folder, Blobs by path, or a ' +
      `FileSystemDirectoryHandle. Received: ${describeValue(message)}.`,
  );
}
