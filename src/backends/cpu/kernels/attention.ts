/** Attention that skips the keys a query cannot see, cache updates, and rounding for a cache. */
import {type KernelFunc, type NamedAttrMap, type TensorInfo} from '@tensorflow/tfjs';
import {bfloat16ToFloat32, float32ToBfloat16} from '../../../base/half';
import {type AttentionAttrs} from '../../../ops/attention';
import {type CacheUpdateAttrs} from '../../../ops/cache_update';
import {type KernelMap} from '../../kernel_map';
import {type MathBackendCPU, valuesOf} from '../cpu_backend';

/** q (B, T, N, H), k and v (B, S, K, H) → (B, T, N, H). See `ops/attention.ts`. */
const attentionKernel: KernelFunc = ({inputs, backend, attrs}) => {
  const cpu = backend as MathBackendCPU;
  const tensors = inputs as Record<string, TensorInfo>;
  const {scale, logitSoftCap, window, bidirectional} = attrs as unknown as AttentionAttrs;
  const array = (name: string) => (tensors[name] ? valuesOf(cpu, tensors[name]) : undefined);
  const cached = (name: string) => {
    const values = array(name)!;
    if (!(values instanceof Int32Array)) return values;
    const wide = new Float32Array(2 * values.length);
    bfloat16ToFloat32(new Uint16Array(values.buffer, values.byteOffset, wide.length), wide);
    return wide;
  };
  const [q, k, v] = [array('q')!, cached('k'), cached('v')];
  const [batch, length, heads, width] = tensors.q!.shape as [number, number, number, number];
  const [, size, keyHeads] = tensors.k!.shape as [number, number, number];
  const groups = heads / keyHeads;
  const [queryPositions, keyPositions] = [array('queryPositions')!, array('keyPositions')!];
  const queryRows = tensors.queryPositions!.shape[0]!;
  const keyRows = tensors.keyPositions!.shape[0]!;
  const [padding, queryImages, keyImages] = [array('paddingMask'), array('queryImages'), array('keyImages')];
  const extra = array('attentionMask');
  const extraRows = tensors.attentionMask?.shape[0] ?? 1;
  // How far a key may be before (left) and after (right) its query.
  const right = window === null ? Infinity : bidirectional ? Math.floor(window / 2) : window - 1;
  const left = window === null ? Infinity : bidirectional ? window - right - 1 : window - 1;

  const out = new Float32Array(q.length);
  const visible = new Int32Array(size);
  const scores = new Float64Array(size);
  const sums = new Float64Array(width);
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < length; t++) {
      const position = queryPositions[(queryRows === 1 ? 0 : b * length) + t]!;
      const image = queryImages ? queryImages[b * length + t]! : 0;
      let count = 0;
      for (let s = 0; s < size; s++) {
        const key = keyPositions[(keyRows === 1 ? 0 : b * size) + s]!;
        const distance = position - key;
        if (key < 0 || distance > left || -distance > right) continue;
        if (!bidirectional && distance < 0 && !(image > 0 && image === keyImages?.[b * size + s])) continue;
        if (padding && !(padding[b * size + s]! && (!bidirectional || padding[b * length + t]!))) continue;
        if (extra && extra[((extraRows === 1 ? 0 : b) * length + t) * size + s] === 0) continue;
        visible[count++] = s;
      }
      if (count === 0) continue; // the output stays zero
      for (let n = 0; n < heads; n++) {
        const query = ((b * length + t) * heads + n) * width;
        const head = Math.floor(n / groups);
        let max = -Infinity;
        for (let i = 0; i < count; i++) {
          const key = ((b * size + visible[i]!) * keyHeads + head) * width;
          let score = 0;
          for (let h = 0; h < width; h++) score += q[query + h]! * k[key + h]!;
          score *= scale;
          if (logitSoftCap !== null) score = Math.tanh(score / logitSoftCap) * logitSoftCap;
          scores[i] = score;
          if (score > max) max = score;
        }
        let total = 0;
        for (let i = 0; i < count; i++) total += scores[i] = Math.exp(scores[i]! - max);
        sums.fill(0);
        for (let i = 0; i < count; i++) {
          const value = ((b * size + visible[i]!) * keyHeads + head) * width;
          const weight = scores[i]! / total;
          for (let h = 0; h < width; h++) sums[h]! += weight * v[value + h]!;
        }
        out.set(sums, query);
      }
    }
  }
  return cpu.makeTensorInfo([batch, length, heads, width], 'float32', out);
};

/** Updates the cache in place and returns it, as the contract of the operation allows. */
const cacheUpdateKernel: KernelFunc = ({inputs, backend, attrs}) => {
  const cpu = backend as MathBackendCPU;
  const {cache, update} = inputs as {cache: TensorInfo; update: TensorInfo};
  const {starts, lengths} = attrs as NamedAttrMap as unknown as CacheUpdateAttrs;
  const [batch, capacity, keyHeads, headDim] = cache.shape as [number, number, number, number];
  const length = update.shape[1]!;
  const width = keyHeads * headDim;
  const [to, from] = [valuesOf(cpu, cache), valuesOf(cpu, update)];
  for (let row = 0; row < batch; row++) {
    for (let t = Math.max(0, lengths[row]! - capacity); t < lengths[row]!; t++) {
      const source = (row * length + t) * width;
      to.set(from.subarray(source, source + width), (row * capacity + ((starts[row]! + t) % capacity)) * width);
    }
  }
  cpu.incRef(cache.dataId);
  return {dataId: cache.dataId, shape: cache.shape, dtype: cache.dtype};
};

/** x (…, H) → int32 (…, H / 2) */
const packBfloat16Kernel: KernelFunc = ({inputs, backend}) => {
  const cpu = backend as MathBackendCPU;
  const {x} = inputs as {x: TensorInfo};
  const values = valuesOf(cpu, x) as Float32Array;
  const words = new Int32Array(values.length / 2);
  float32ToBfloat16(values, new Uint16Array(words.buffer));
  return cpu.makeTensorInfo([...x.shape.slice(0, -1), x.shape.at(-1)! / 2], 'int32', words);
};

export const attentionKernels: KernelMap = {
  Gemma3PackBfloat16: packBfloat16Kernel,
  Gemma3Attention: attentionKernel,
  Gemma3CacheUpdate: cacheUpdateKernel,
};
