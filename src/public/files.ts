/**
 * Sources to read presets from, and sinks to write them to.
 *
 * @module files
 */
export {type ByteSink, type FileSink, type PresetSink} from '../base/byte_sink';
export {type BytePlace, type ByteRange, type ByteSource, MemorySource, type PresetSource} from '../base/byte_source';
export {type Arrangement} from '../checkpoints/arrangement';
export {type Checkpoint, type CheckpointPart, type OpenOptions} from '../checkpoints/checkpoint';
export {type NamedWeight} from '../checkpoints/foreign_names';
export {type CheckpointLike, type CheckpointOptions, openCheckpoint} from '../checkpoints/open_checkpoint';
export {type PackedBits, type StoredVariable, type StoredWeights} from '../checkpoints/stored_weights';
export {folderHandler} from '../checkpoints/tfjs/folder_handler';
export {BlobPreset} from '../files/blob';
export {DirectoryHandlePreset} from '../files/directory_handle';
export {HttpPreset} from '../files/http';
export {type FetchOptions, type HttpOptions} from '../files/http_client';
export {MemoryFile, MemoryPreset} from '../files/memory';
export {type FileSource, type FileTarget, openFileTarget} from '../files/open_file';
export {type PresetTarget} from '../files/open_folder';
export {openPreset, type PresetLike} from '../hub/open_preset';
export {type OpenPresetOptions} from '../hub/resolver';
