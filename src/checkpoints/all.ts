/** All formats of checkpoints. The first that recognizes a folder reads it. A new format is a folder and a line here. */
import {type CheckpointFormat} from './checkpoint';
import {kerasFormat} from './keras';
import {tfjsFormat} from './tfjs';

export const checkpointFormats = [kerasFormat, tfjsFormat] as const satisfies readonly CheckpointFormat[];

/** Whether a file holds weights, in any format. Saving new weights into its folder makes it obsolete. */
export const isWeightFile = (path: string): boolean => checkpointFormats.some(format => format.isWeightFile(path));
