/** Small random models for scripts about the backend `webgpu`, and Dawn's null device, which computes nothing. */

/**
 * Uses a device that accepts all commands and runs none, in Node, so that only the time of JavaScript and Dawn remains.
 */
export async function useNullDevice() {
  const {create, globals} = await import('webgpu');
  Object.assign(globalThis, globals);
  readZeros();
  if (!globalThis.navigator) Object.defineProperty(globalThis, 'navigator', {value: {}, configurable: true});
  Object.defineProperty(globalThis.navigator, 'gpu', {value: create(['backend=null']), configurable: true});
}

/** Without computation, memory has arbitrary values, so token 0 is read. */
function readZeros() {
  const {getMappedRange} = GPUBuffer.prototype;
  GPUBuffer.prototype.getMappedRange = function (...args) {
    const bytes = getMappedRange.apply(this, args);
    if (this.usage & GPUBufferUsage.MAP_READ) new Uint8Array(bytes).fill(0);
    return bytes;
  };
}

let leftOut = false;
/** Turns a page's GPU into one that accepts all commands and computes nothing. */
export function leaveOutWorkgroups() {
  if (leftOut) return;
  leftOut = true;
  readZeros();
  const {dispatchWorkgroups} = GPUComputePassEncoder.prototype;
  GPUComputePassEncoder.prototype.dispatchWorkgroups = function () {
    dispatchWorkgroups.call(this, 0);
  };
}

/** Narrow layers, as many as the model of the given size has: the work of JavaScript depends only on their number. */
const SHAPES = {
  small: {numLayers: 2, numQueryHeads: 2, numKeyValueHeads: 1, headDim: 8},
  '270m': {numLayers: 18, numQueryHeads: 4, numKeyValueHeads: 1, headDim: 256},
  '1b': {numLayers: 26, numQueryHeads: 4, numKeyValueHeads: 1, headDim: 256},
  '4b': {numLayers: 34, numQueryHeads: 8, numKeyValueHeads: 4, headDim: 256},
};

export function narrowModel({Gemma3Backbone, Gemma3CausalLM}, shape, dtype) {
  const backbone = new Gemma3Backbone({
    vocabularySize: 512,
    imageSize: null,
    hiddenDim: 32,
    intermediateDim: 32,
    useQueryKeyNorm: true,
    usePostFfwNorm: true,
    usePostAttentionNorm: true,
    useSlidingWindowAttention: true,
    slidingWindowSize: 512,
    dtype,
    ...SHAPES[shape],
  });
  const lm = new Gemma3CausalLM({backbone});
  backbone.dispose(); // the model still holds a reference
  return lm;
}
