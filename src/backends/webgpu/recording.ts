/** Commands that are recorded once and run many times: their bind groups, numbers and temporary tensors are kept. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {sizeOf} from '../../base/shapes';
import {gridOf, numbersOf, type Program} from './program';
import {type Run, type Runner, type WebGpuBackend} from './webgpu_backend';

/** Buffers of numbers begin at multiples of this. */
export const ALIGNMENT = 256;

interface Command {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly grid: [x: number, y: number];
  /** Number of operands with a part for each step. */
  readonly perStep: number;
}

/** A program with all of its operands. */
interface Recorded extends Run {
  readonly program: Program;
}

/**
 * Records programs instead of running them. Operands marked `perStep` are in a part of their tensor that begins
 * `stride` bytes further for each step.
 */
export class Recording implements Runner {
  private readonly recorded: Recorded[] = [];
  private commands: Command[] | undefined;
  private numbers: GPUBuffer | undefined;
  /** Temporary tensors: all of them, and those that are no longer needed. */
  private readonly scratch = new Map<object, TensorInfo>();
  private free: TensorInfo[] = [];

  /** @param stride a multiple of {@link ALIGNMENT}. */
  constructor(
    private readonly backend: WebGpuBackend,
    private readonly stride: number,
  ) {}

  get device(): GPUDevice {
    return this.backend.device;
  }

  get lanes(): number {
    return this.backend.lanes;
  }

  get codeTiles(): WebGpuBackend['codeTiles'] {
    return this.backend.codeTiles;
  }

  /** Number of commands. */
  get length(): number {
    return this.recorded.length;
  }

  run(program: Program, run: Run): void {
    if (run.groups > 0) this.recorded.push({program, ...run});
  }

  /** Commands run one after another, so a later one may use the memory of a tensor that was disposed of before. */
  empty(shape: number[], dtype: 'float32' | 'int32' | 'bool' = 'float32'): TensorInfo {
    const at = this.free.findIndex(one => one.dtype === dtype && sizeOf(one.shape) === sizeOf(shape));
    if (at >= 0) return {...this.free.splice(at, 1)[0]!, shape};
    const made = this.backend.empty(shape, dtype);
    this.scratch.set(made.dataId, made);
    return made;
  }

  disposeData(dataId: object): void {
    const tensor = this.scratch.get(dataId);
    if (tensor) this.free.push(tensor);
  }

  changed(): void {
    // The host's values of keys and values are dropped when these are first written.
  }

  /** Adds the commands of one step to a pass. */
  encode(pass: GPUComputePassEncoder, step: number): void {
    this.commands ??= this.prepare();
    const offset = step * this.stride;
    const offsets = [[], [offset], [offset, offset]];
    for (const {pipeline, group, grid, perStep} of this.commands) {
      pass.setPipeline(pipeline);
      if (perStep === 0) pass.setBindGroup(0, group);
      else pass.setBindGroup(0, group, (offsets[perStep] ??= Array.from({length: perStep}, () => offset)));
      if (grid[1] === 1) pass.dispatchWorkgroups(grid[0]);
      else pass.dispatchWorkgroups(grid[0], grid[1]);
    }
  }

  /** The numbers of all programs are in one buffer. */
  private prepare(): Command[] {
    const {device} = this.backend;
    const numbers = this.recorded.map(({program, numbers}) => numbersOf(program, numbers));
    const offsets: number[] = [];
    let size = 0;
    for (const {byteLength} of numbers) {
      offsets.push(size);
      size += Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT;
    }
    const buffer = this.backend.createBuffer({size, usage: GPUBufferUsage.UNIFORM, mappedAtCreation: true});
    const bytes = new Uint8Array(buffer.getMappedRange());
    numbers.forEach((own, i) => bytes.set(new Uint8Array(own), offsets[i]));
    buffer.unmap();
    this.numbers = buffer;
    return this.recorded.map(({program, tensors, groups}, i) => {
      const perStep = tensors.map(one => 'tensor' in one && one.perStep === true);
      const pipeline = this.backend.pipelineOf(program, perStep);
      const resources: GPUBufferBinding[] = [
        ...tensors.map(one => this.backend.bindingOf(one)),
        {buffer, offset: offsets[i]!, size: numbers[i]!.byteLength},
      ];
      const entries = resources.map((resource, binding) => ({binding, resource}));
      const group = device.createBindGroup({layout: pipeline.getBindGroupLayout(0), entries});
      return {pipeline, group, grid: gridOf(groups), perStep: perStep.filter(Boolean).length};
    });
  }

  /** Submitted commands still run. */
  dispose(): void {
    if (this.numbers) this.backend.destroyBuffer(this.numbers);
    this.numbers = undefined;
    for (const {dataId} of this.scratch.values()) this.backend.disposeData(dataId);
    this.scratch.clear();
  }
}
