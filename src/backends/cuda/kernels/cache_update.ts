/** Writes keys and values into a cache in place. See `ops/cache_update.ts`. */
import {type KernelFunc} from '@tensorflow/tfjs';
import {type CacheUpdateAttrs} from '../../../ops/cache_update';
import {type KernelMap} from '../../kernel_map';
import {type Device, FLOAT, type Program} from '../device';
import {kernelOf} from './kernel';

const INPLACE = {T: FLOAT};

/** Writes rows (n, width) at places of a cache, whose memory they change. */
export function writeRows(p: Program, cache: number, places: readonly number[], rows: number): void {
  p.run('InplaceUpdate', INPLACE, cache, p.list(places), rows);
}

const cacheUpdate = (device: Device): KernelFunc =>
  kernelOf<'cache' | 'update', CacheUpdateAttrs>(device, (p, {cache, update}, {starts, lengths}) => {
    const [batch, capacity, keyHeads, headDim] = cache.shape as [number, number, number, number];
    const length = update.shape[1]!;
    const from: number[] = [];
    const to: number[] = [];
    for (let row = 0; row < batch; row++) {
      for (let t = Math.max(0, lengths[row]! - capacity); t < lengths[row]!; t++) {
        from.push(row * length + t);
        to.push(row * capacity + ((starts[row]! + t) % capacity));
      }
    }
    if (from.length > 0) {
      const width = keyHeads * headDim;
      const all = p.reshape(p.of(update), [batch * length, width]);
      const rows = from.length === batch * length ? all : p.gather(all, p.list(from));
      // Both shapes share their memory.
      writeRows(p, p.reshape(p.of(cache), [batch * capacity, width]), to, rows);
    }
    device.backend.incRef(cache.dataId);
    return {dataId: cache.dataId, shape: cache.shape, dtype: cache.dtype};
  });

export const cacheKernels = (device: Device): KernelMap => ({Gemma3CacheUpdate: cacheUpdate(device)});
