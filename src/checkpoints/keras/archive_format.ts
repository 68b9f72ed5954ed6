/** `.keras` archives as a format. What reads them is loaded with the first one. */
import {type PresetSource} from '../../base/byte_source';
import {type Checkpoint, type CheckpointFormat} from '../checkpoint';
import {archiveIn} from './archive_names';

export const kerasArchiveFormat = {
  name: 'keras archive',
  recognizes: async (source: PresetSource) => (await archiveIn(source)) !== undefined,
  open: async (source: PresetSource): Promise<Checkpoint> => (await import('./archive')).openKerasArchive(source),
  // A preset next to an archive does not make the archive obsolete.
  isWeightFile: () => false,
} as const satisfies CheckpointFormat;
