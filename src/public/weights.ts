/**
 * Weights: how models and files store them, and how much memory they take.
 *
 * @module weights
 */
export {listPresetVariables, type PresetVariable} from '../checkpoints/load_weights';
export {memoryByDtype, type WeightMemory} from '../models/memory';
export {type Dtype, parseDtype} from '../weights/dtype';
export {PackedWeight} from '../weights/packed_weight';
export {Weight} from '../weights/weight';
