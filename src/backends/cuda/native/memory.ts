/** Memory of the GPU: what TensorFlow says when there is none left, and how much the driver says is free. */
import {spawnSync} from 'node:child_process';
import {OutOfMemoryError} from '../../../base/errors';
import {formatBytes} from '../../../base/format_bytes';
import {sizeOf} from '../../../base/shapes';

/** Bytes of TensorFlow's types, by the names in its messages. */
const BYTES: Readonly<Record<string, number>> = {float: 4, int32: 4, bfloat16: 2, half: 2, int8: 1, uint8: 1, bool: 1};

interface GpuMemory {
  free: number;
  total: number;
}

/** Of the GPU that TensorFlow uses, which is the last one that it sees; undefined if the driver does not say. */
export function gpuMemory(): GpuMemory | undefined {
  const query = ['--query-gpu=memory.free,memory.total', '--format=csv,noheader,nounits'];
  const {status, stdout} = spawnSync('nvidia-smi', query, {encoding: 'utf8', timeout: 10_000});
  if (status !== 0) return undefined;
  const [free, total] = stdout.trim().split('\n').at(-1)!.split(',').map(Number) as [number, number];
  return Number.isFinite(free) && Number.isFinite(total) ? {free: free * 2 ** 20, total: total * 2 ** 20} : undefined;
}

/** A tensor that was asked for, where TensorFlow's message does not say which one did not fit. */
export interface Wanted {
  readonly shape: readonly number[];
  /** One of the names in TensorFlow's messages. */
  readonly type: string;
}

/** What TensorFlow says of a tensor that did not get memory on the device, to which it was to be copied. */
const NOT_COPIED = /Dst tensor is not initialized/;

function wantedOf(text: string, asked: Wanted | undefined): Wanted | undefined {
  const found = /OOM when allocating tensor with shape\[([\d,]*)\] and type (\w+)/.exec(text);
  if (found) return {shape: found[1] === '' ? [] : found[1]!.split(',').map(Number), type: found[2]!};
  return NOT_COPIED.test(text) ? asked : undefined;
}

/**
 * TensorFlow's message for memory that it did not get, as an error that says what would fit; undefined for any other.
 *
 * @param asked what was to be created.
 */
export function toOutOfMemory(
  text: string,
  memory: () => GpuMemory | undefined = gpuMemory,
  asked?: Wanted,
): Error | undefined {
  const wanted = wantedOf(text, asked);
  if (!wanted) return undefined;
  const {shape, type} = wanted;
  const bytes = sizeOf(shape) * (BYTES[type] ?? 4);
  // Where the driver does not say, all that is known is that this was too much.
  const {free, total} = memory() ?? {free: 0, total: bytes};
  // Bytes of a weight of this type in smaller ones: int8 has a scale for 32 numbers.
  const smaller = Object.entries({bfloat16: 2, int8: 1.125})
    .map(([dtype, size]) => ({dtype, bytes: Math.ceil(sizeOf(shape) * size)}))
    .find(other => other.bytes < bytes && other.bytes <= free);
  const advice =
    `A tensor of shape [${shape.join()}] did not fit; ${formatBytes(free)} are free. ` +
    (smaller
      ? `In dtype "${smaller.dtype}" a weight of this shape takes ${formatBytes(smaller.bytes)}: load the model with ` +
        'it, or use shorter inputs.'
      : 'Use a smaller model or shorter inputs, or end other programs on this GPU.');
  // A tensor may be as large as the memory.
  const figures = {bytes, used: total - free, limit: total, largest: Math.max(bytes, total)};
  return new OutOfMemoryError(figures, advice);
}
