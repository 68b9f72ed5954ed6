/** node-llama-cpp's side: node bench/peers/llama.mjs '{"gguf": …, "prompt": […], "longPrompt": […], …}' */
import {getLlama} from 'node-llama-cpp';
import {measure, options} from './measure.mjs';

let llama;
let model;
let sequence;

const side = {
  async load() {
    // The only binary for Apple's processors includes Metal. `gpuLayers: 0` keeps every layer on the CPU.
    const gpu = process.platform === 'darwin' && process.arch === 'arm64' ? 'metal' : false;
    llama = await getLlama({gpu, build: 'never', skipDownload: true, logLevel: 'error', maxThreads: options.threads});
    model = await llama.loadModel({modelPath: options.gguf, gpuLayers: 0});
    const contextSize = Math.max(options.longPrompt.length, options.prompt.length + options.tokens) + 32;
    const context = await model.createContext({contextSize, batchSize: 512, sequences: 1, threads: options.threads});
    sequence = context.getSequence();
  },

  async *start(prompt) {
    await sequence.clearHistory();
    yield* sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true});
  },

  facts: async () => ({
    weightBytes: model.size,
    version: llama.llamaCppRelease.release,
    system: llama.systemInfo,
  }),
};

await measure(side);
process.exit(0);
