/** Options of the backend, and their checks. */
import {checkArgument} from '../../base/checks';
import {show, ValueError} from '../../base/errors';

/** Options of `useBackend('webgpu', …)`. */
export interface WebGpuOptions {
  /** Which GPU to use if there are two. Defaults to "high-performance". */
  powerPreference?: 'low-power' | 'high-performance';
  /** Accept an adapter that computes on the CPU, which is slower than the backend "simd". Defaults to false. */
  software?: boolean;
}

const POWER = ['low-power', 'high-performance'];

/** @throws ValueError on options that no device can have. */
export function checkWebGpuOptions({powerPreference, software}: WebGpuOptions): void {
  if (powerPreference !== undefined && !POWER.includes(powerPreference)) {
    throw new ValueError(
      `Backend "webgpu" expected \`powerPreference\` as ${POWER.map(show).join(' or ')}. Received: ` +
        `powerPreference=${show(powerPreference)}. Leave it out for the faster GPU.`,
    );
  }
  if (software !== undefined) checkArgument('Backend "webgpu"', 'software', software, 'flag');
}
