/** Registers Gemma 3's names with the formats of other programs. Every class with a `fromPreset` imports this file. */
import {registerGgufModel} from '../../../checkpoints/gguf/models';
import {registerHuggingFaceModel} from '../../../checkpoints/huggingface/models';

registerHuggingFaceModel(async () => (await import('./huggingface_parts')).gemma3HuggingFaceModel);
registerGgufModel(async () => (await import('./gguf_parts')).gemma3GgufModel);
