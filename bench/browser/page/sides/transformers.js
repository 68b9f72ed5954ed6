/** transformers.js: ONNX Runtime on WebGPU. */
import {AutoModelForCausalLM, AutoTokenizer, env} from '@huggingface/transformers';
import {Watch} from '../watch.js';

export const name = 'transformers.js';

// Models come from the server if it has them, otherwise from Hugging Face.
env.allowLocalModels = true;
env.localModelPath = '/models/';
env.backends.onnx.wasm.wasmPaths = `${location.origin}/onnxruntime/`;

export async function open({onnx, onnxDtype}, say) {
  const progress_callback = ({status, file, progress}) =>
    say(status === 'progress' ? `${file}, ${Math.round(progress)} %` : status);
  const tokenizer = await AutoTokenizer.from_pretrained(onnx, {progress_callback});
  const model = await AutoModelForCausalLM.from_pretrained(onnx, {
    dtype: onnxDtype,
    device: 'webgpu',
    progress_callback,
  });
  return {
    model: `${onnx}, ${onnxDtype}`,
    async run(text, tokens) {
      const watch = new Watch();
      const inputs = tokenizer(text);
      // The first call of a streamer has the prompt.
      let begun = false;
      const streamer = {
        put: () => (begun ? watch.arrived() : void (begun = true)),
        end: () => {},
      };
      await model.generate({...inputs, max_new_tokens: tokens, min_new_tokens: tokens, do_sample: false, streamer});
      return watch.result(inputs.input_ids.dims.at(-1));
    },
  };
}
