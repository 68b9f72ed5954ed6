/** transformers.js, which runs ONNX Runtime on WebGPU. */
import {pipeline, TextStreamer} from '@huggingface/transformers';

export const name = 'transformers.js';
const MODEL = 'onnx-community/gemma-3-1b-it-ONNX';
/** 4-bit weights with float32 activations: those with float16 overflow in this model. */
const DTYPE = 'q4';

export async function open({onProgress}) {
  const generator = await pipeline('text-generation', MODEL, {
    dtype: DTYPE,
    device: 'webgpu',
    progress_callback: ({status, progress}) => status === 'progress' && onProgress(progress / 100),
  });
  return {
    what: `${DTYPE}, ${MODEL}`,
    async generate(prompt, tokens, onToken) {
      let count = 0;
      const streamer = new TextStreamer(generator.tokenizer, {
        skip_prompt: true,
        callback_function: () => {},
        token_callback_function: () => {
          count++;
          onToken();
        },
      });
      const options = {max_new_tokens: tokens, min_new_tokens: tokens, do_sample: false, streamer};
      await generator([{role: 'user', content: prompt}], options);
      return count;
    },
    close: () => generator.dispose(),
  };
}
