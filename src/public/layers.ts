/**
 * Keras layers that tfjs lacks or implements differently.
 *
 * @module layers
 */
export {Dense, type DenseArgs} from '../layers/dense';
export {EinsumDense, type EinsumDenseArgs} from '../layers/einsum_dense';
export {Layer, type LayerArgs} from '../layers/layer';
export {LayerNormalization, type LayerNormalizationArgs} from '../layers/layer_normalization';
export {type LoraArgs, LoraLayer, type LoraOptions} from '../layers/lora';
export {ReversibleEmbedding, type ReversibleEmbeddingArgs} from '../layers/reversible_embedding';
export {RMSNormalization, type RMSNormalizationArgs} from '../layers/rms_normalization';
export {RotaryEmbedding, type RotaryEmbeddingArgs} from '../layers/rotary_embedding';
export {UnitNormalization, type UnitNormalizationArgs} from '../layers/unit_normalization';
