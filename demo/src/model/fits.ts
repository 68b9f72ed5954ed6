/** Whether a model fits into this machine, as far as a page can know. */
import {type PresetDescription} from 'tfjs-gemma3/worker';
import {formatBytes} from '../base/format';

/**
 * Bytes of memory that the browser reports: a power of two, in most browsers at most 8 GB. Undefined in some browsers.
 */
export function machineMemory(): number | undefined {
  const {deviceMemory} = navigator as {deviceMemory?: number};
  return deviceMemory === undefined ? undefined : deviceMemory * 2 ** 30;
}

/** The browser, the system and other pages need the rest. */
const SHARE = 0.6;

export interface Fit {
  bytes: number;
  fits: boolean | undefined;
  text: string;
}

/** What a model needs with each dtype: its weights, the cache of a text of 1024 tokens, and a tenth for computation. */
export function fitsOf({memory, cache}: PresetDescription): Record<keyof PresetDescription['memory'], Fit> {
  const limit = machineMemory();
  const entries = Object.entries(memory).map(([dtype, {total}]) => {
    const bytes = 1.1 * total + (cache[0]?.bytes ?? 0);
    const fits = limit === undefined ? undefined : bytes <= SHARE * limit;
    const judged =
      fits === undefined ? 'this browser does not report how much there is' : fits ? 'fits here' : 'may not fit here';
    return [dtype, {bytes, fits, text: `${formatBytes(bytes)}, ${judged}`}];
  });
  return Object.fromEntries(entries) as Record<keyof PresetDescription['memory'], Fit>;
}

/** The dtype to propose: that of the files if it fits, otherwise the largest one that fits, otherwise the smallest. */
export function proposed(description: PresetDescription): keyof PresetDescription['memory'] {
  const fits = fitsOf(description);
  const order = ['bfloat16', 'int8', 'int4'] as const;
  const own = order.find(dtype => description.dtypes.includes(dtype));
  return order.slice(own ? order.indexOf(own) : 0).find(dtype => fits[dtype].fits !== false) ?? 'int4';
}
