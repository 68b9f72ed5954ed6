/**
 * All checkpoint formats. A folder is read by the first format that recognizes it. To add a format, add its folder and
 * a line here.
 */
import {type CheckpointFormat} from './checkpoint';
import {ggufFormat} from './gguf';
import {huggingFaceFormat} from './huggingface';
import {kerasFormat} from './keras';
import {kerasArchiveFormat} from './keras/archive_format';
import {tfjsFormat} from './tfjs';

export const checkpointFormats = [
  kerasFormat,
  kerasArchiveFormat,
  tfjsFormat,
  // Before Hugging Face's: folders with GGUF files often have a config.json of transformers as well.
  ggufFormat,
  huggingFaceFormat,
] as const satisfies readonly CheckpointFormat[];

/** Whether a file holds weights, in any format. Saving new weights into its folder makes it obsolete. */
export const isWeightFile = (path: string): boolean => checkpointFormats.some(format => format.isWeightFile(path));
