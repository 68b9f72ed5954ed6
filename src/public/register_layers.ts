/**
 * Registers the layers and models of this package with tfjs: `import 'tfjs-gemma3/layers'`. Only programs that call
 * `tf.loadLayersModel` and are built by a bundler need it, since bundlers leave out classes that a program does not name.
 *
 * @module register_layers
 */
import {registerLayer} from '../layers/layer';
import {UnitNormalization} from '../layers/unit_normalization';
import {Gemma3CausalLM} from '../models/gemma3/gemma3_causal_lm';
import {Gemma3TextEmbedder} from '../models/gemma3/gemma3_text_embedder';
import {Gemma3VisionEncoder} from '../models/gemma3/gemma3_vision_encoder';

// Each registers itself. Naming them here keeps their files, and those of the layers inside them, in a bundle.
for (const cls of [Gemma3CausalLM, Gemma3TextEmbedder, Gemma3VisionEncoder, UnitNormalization]) registerLayer(cls);
