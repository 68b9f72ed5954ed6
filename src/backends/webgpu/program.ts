/** Compute programs: the descriptions in WGSL files, and the shader text around them. */

/** A number in the uniform buffer of a program. */
export type NumberType = 'u32' | 'i32' | 'f32';

/** The parts of a compute shader that differ between programs. */
export interface Program {
  /** Differs for all programs with different text. Errors name it. */
  readonly name: string;
  /** Invocations of a workgroup, at most 256. */
  readonly size: number;
  /** Types of the storage buffers by name, in the order of the bindings: those that are only read come first. */
  readonly reads: Readonly<Record<string, string>>;
  readonly writes: Readonly<Record<string, string>>;
  /** Types of the numbers by name: `n.name` in the text. At most eight buffers and these fit on every device. */
  readonly numbers: Readonly<Record<string, NumberType>>;
  /** Whether invocations exchange values directly, which only some devices can. */
  readonly subgroups?: boolean;
  /** Whether it has numbers in float16, which only some devices can. */
  readonly halves?: boolean;
  /** Whether it multiplies and adds four bytes at once, which only some implementations can. */
  readonly packedDots?: boolean;
  /** Declarations before the main function. */
  readonly declarations?: string;
  /** The main function. It sees `group`, the index of the workgroup, and `lane`, that of the invocation in it. */
  readonly body: string;
}

/** Maximum number of workgroups in one dimension that every device supports. */
const MOST_GROUPS = 65_535;

/** Workgroups in two dimensions; there may be more than requested. */
export function gridOf(groups: number): [x: number, y: number] {
  if (groups <= MOST_GROUPS) return [groups, 1];
  const y = Math.ceil(groups / MOST_GROUPS);
  return [Math.ceil(groups / y), y];
}

/** The whole shader. Every body must ignore groups after the last one. */
export function shaderOf(program: Program): string {
  const {size, reads, writes, numbers, declarations = '', body} = program;
  const needs = [
    ...(program.subgroups ? ['enable subgroups;'] : []),
    ...(program.halves ? ['enable f16;'] : []),
    ...(program.packedDots ? ['requires packed_4x8_integer_dot_product;'] : []),
  ];
  const buffers = [
    ...Object.entries(reads).map(([name, type]) => ['read', name, type]),
    ...Object.entries(writes).map(([name, type]) => ['read_write', name, type]),
  ].map(([access, name, type], i) => `@group(0) @binding(${i}) var<storage, ${access}> ${name}: ${type};`);
  const fields = Object.entries(numbers).map(([name, type]) => `${name}: ${type}`);
  return `${needs.join('\n')}
struct Numbers { ${fields.join(', ')} }
${buffers.join('\n')}
@group(0) @binding(${buffers.length}) var<uniform> n: Numbers;
const SIZE = ${size}u;
${declarations}
@compute @workgroup_size(${size})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let group = workgroup.y * workgroups.x + workgroup.x;
${body}
}
`;
}

/** The numbers of a program as the bytes of its uniform buffer. */
export function numbersOf({name, numbers}: Program, values: Readonly<Record<string, number>>): ArrayBuffer {
  const entries = Object.entries(numbers);
  const view = new DataView(new ArrayBuffer(Math.ceil(entries.length / 4) * 16));
  entries.forEach(([key, type], i) => {
    const value = values[key];
    if (value === undefined) throw new Error(`internal: the program "${name}" has no value for "${key}".`);
    if (type === 'f32') view.setFloat32(4 * i, value, true);
    else view.setUint32(4 * i, value, true);
  });
  return view.buffer;
}

/** @param perStep for each buffer, whether its offset is passed with the command. */
export function createPipeline(
  device: GPUDevice,
  program: Program,
  perStep: readonly boolean[] = [],
): GPUComputePipeline {
  const {name: label, reads, writes} = program;
  const types: GPUBufferBindingType[] = [
    ...Object.keys(reads).map(() => 'read-only-storage' as const),
    ...Object.keys(writes).map(() => 'storage' as const),
    'uniform',
  ];
  const entries = types.map((type, binding) => ({
    binding,
    visibility: GPUShaderStage.COMPUTE,
    buffer: {type, hasDynamicOffset: perStep[binding] ?? false},
  }));
  const layout = device.createPipelineLayout({bindGroupLayouts: [device.createBindGroupLayout({entries, label})]});
  const module = device.createShaderModule({code: shaderOf(program), label});
  return device.createComputePipeline({layout, compute: {module, entryPoint: 'main'}, label});
}
