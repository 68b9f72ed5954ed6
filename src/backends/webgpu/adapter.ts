/** The adapter and the device: everything that the adapter offers is requested, and nothing is required. */
import {findGpu, whyNoGpu} from '#platform/gpu';
import {UnavailableError} from '../backend';
import {type WebGpuOptions} from './options';

/** Limits that are raised to the adapter's. Kernels need only what every device has. */
const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupsPerDimension',
] as const;

const FEATURES = ['subgroups', 'shader-f16', 'timestamp-query'] as const;

/** Features that all devices of an implementation have or lack. */
const LANGUAGE_FEATURE = 'packed_4x8_integer_dot_product';
export const hasPackedDots = async (): Promise<boolean> =>
  ((await findGpu()) as Partial<GPU> | undefined)?.wgslLanguageFeatures?.has(LANGUAGE_FEATURE) ?? false;

/** The predecessor of `adapter.info` in older browsers. */
type Adapter = GPUAdapter & {isFallbackAdapter?: boolean};

/** @throws UnavailableError if there is none. */
export async function requestAdapter({powerPreference}: WebGpuOptions = {}): Promise<GPUAdapter> {
  const gpu = (await findGpu()) as GPU | undefined;
  if (!gpu) throw new UnavailableError(whyNoGpu);
  const adapter = await gpu.requestAdapter({powerPreference: powerPreference ?? 'high-performance'});
  if (adapter) return adapter;
  throw new UnavailableError(
    'WebGPU finds no adapter. Update the GPU driver; on Linux, install a Vulkan driver and its loader (libvulkan1).',
  );
}

/** Whether the adapter computes on the CPU, which is slower than the backend "simd". */
export const isSoftware = (adapter: GPUAdapter): boolean =>
  (adapter.info as {isFallbackAdapter?: boolean} | undefined)?.isFallbackAdapter ??
  (adapter as Adapter).isFallbackAdapter ??
  false;

/** Features of {@link FEATURES} that the adapter has. */
const featuresOf = (adapter: GPUAdapter) => FEATURES.filter(feature => adapter.features.has(feature as GPUFeatureName));

/** @throws UnavailableError if the adapter provides none. */
export async function requestDevice(adapter: GPUAdapter): Promise<GPUDevice> {
  try {
    return await adapter.requestDevice({
      requiredFeatures: featuresOf(adapter) as GPUFeatureName[],
      requiredLimits: Object.fromEntries(LIMITS.map(limit => [limit, adapter.limits[limit]])),
    });
  } catch (error) {
    throw new UnavailableError(`The GPU provides no device: ${(error as Error).message.replace(/\.$/, '')}.`);
  }
}

const inMebibytes = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;

export const adapterName = ({info}: GPUAdapter): string =>
  info?.description || [info?.vendor, info?.architecture || info?.device].filter(Boolean).join(' ') || 'unnamed GPU';

/** The adapter for users: name, features, limits. */
export async function describeAdapter(adapter: GPUAdapter): Promise<string> {
  const {limits} = adapter;
  const features = [...featuresOf(adapter), ...((await hasPackedDots()) ? [LANGUAGE_FEATURE] : [])];
  const software = isSoftware(adapter) ? ' (software on the CPU: needs the option `software`)' : '';
  return (
    `${adapterName(adapter)}${software}, ` +
    `${features.length ? `with ${features.join(', ')}` : 'without optional features'}. Buffers of ` +
    `${inMebibytes(limits.maxBufferSize)}, ${inMebibytes(limits.maxStorageBufferBindingSize)} at a time`
  );
}
