/**
 * transformers.js' side: node bench/peers/transformers.mjs '{"onnx": …, "prompt": […], "longPrompt": […], …}'
 *
 * `onnx` is a folder that onnx_model.py wrote.
 */
import {statSync} from 'node:fs';
import {basename, dirname, join} from 'node:path';
import {AutoModelForCausalLM, BaseStreamer, env, Tensor} from '@huggingface/transformers';
import {measure, options} from './measure.mjs';

env.allowRemoteModels = false;
env.localModelPath = dirname(options.onnx);

let model;

/** Hands over tokens as `generate` chooses them. */
class Queue extends BaseStreamer {
  tokens = [];
  isPrompt = true;
  isEnded = false;
  wake = () => {};

  put([ids]) {
    // The first call brings the prompt.
    if (this.isPrompt) this.isPrompt = false;
    else this.tokens.push(...ids.map(Number));
    this.wake();
  }

  end() {
    this.isEnded = true;
    this.wake();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      while (this.tokens.length > 0) yield this.tokens.shift();
      if (this.isEnded) return;
      await new Promise(wake => (this.wake = wake));
    }
  }
}

const row = ids => new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]);

const side = {
  async load() {
    model = await AutoModelForCausalLM.from_pretrained(basename(options.onnx), {
      dtype: 'q4',
      device: 'cpu',
      session_options: {intraOpNumThreads: options.threads, interOpNumThreads: 1},
    });
  },

  async *start(prompt, count) {
    const streamer = new Queue();
    const done = model.generate({
      inputs: row(prompt),
      attention_mask: row(prompt.map(() => 1)),
      max_new_tokens: count,
      eos_token_id: null,
      do_sample: false,
      streamer,
    });
    try {
      yield* streamer;
    } finally {
      await done;
    }
  },

  facts: async () => ({
    // Without the lookup of tokens, (vocabulary, width) as float32, of which a token reads one row.
    weightBytes:
      statSync(join(options.onnx, 'onnx/model_q4.onnx_data')).size -
      4 * model.config.vocab_size * model.config.hidden_size,
    version: env.version,
  }),
};

await measure(side);
process.exit(0);
