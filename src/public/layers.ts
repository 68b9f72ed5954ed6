/**
 * Keras layers that tfjs lacks or implements differently.
 *
 * @module layers
 */
export {type ActivationName} from '../layers/activations';
export {Dense, type DenseArgs} from '../layers/dense';
export {EinsumDense, type EinsumDenseArgs} from '../layers/einsum_dense';
export {type Kwargs, Layer, type LayerArgs, type ShapeOrShapes, type TensorOrTensors} from '../layers/layer';
export {LayerNormalization, type LayerNormalizationArgs} from '../layers/layer_normalization';
export {type Lora, type LoraArgs, LoraLayer, type LoraOptions} from '../layers/lora';
export {ReversibleEmbedding, type ReversibleEmbeddingArgs} from '../layers/reversible_embedding';
export {RMSNormalization, type RMSNormalizationArgs} from '../layers/rms_normalization';
export {type RotaryCallArgs, RotaryEmbedding, type RotaryEmbeddingArgs} from '../layers/rotary_embedding';
export {UnitNormalization, type UnitNormalizationArgs} from '../layers/unit_normalization';
export {type Initializer, type InitializerLike, type InitializerName} from '../weights/initializers';
export {type Adapter} from '../weights/merged_stream';
