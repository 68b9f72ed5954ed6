/**
 * Weights: how models and files store them, and how much memory they take.
 *
 * @module weights
 */
export {listPresetVariables, type PresetVariable} from '../checkpoints/load_weights';
export {memoryByDtype, type WeightMemory} from '../models/memory';
export {
  type Dtype,
  type DtypeLike,
  type DtypeName,
  type PackedFormat,
  parseDtype,
  type WeightFormat,
} from '../weights/dtype';
export {type AnyWeight, PackedWeight} from '../weights/packed_weight';
export {type IntegerBlocks, type IntegerStream, type IntegerTarget} from '../weights/integer_stream';
export {type KernelLayout, type Packing, type PackingTarget} from '../weights/packing';
export {type Space, type ValueStream} from '../weights/value_stream';
export {Weight} from '../weights/weight';
