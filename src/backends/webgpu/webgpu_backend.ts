/**
 * tfjs' WebGPU backend on a device that we create. Programs of this package are recorded into the same commands as
 * those of tfjs, so that all run in order. GPU errors, which would otherwise only be events, are thrown to the caller:
 * after the first one, nothing more is computed or read.
 */
import * as tf from '@tensorflow/tfjs';
import {OutOfMemoryError, show, ValueError} from '../../base/errors';
import {createPipeline, gridOf, numbersOf, type Program} from './program';
import {type GpuMemory, type StockBackend, type StockBackendClass} from './stock_backend';
import {type CodeTiles} from './wgsl/code_tile';

/** A part of a tensor's buffer. Its first byte is at a multiple of 256. */
export interface Part {
  readonly tensor: tf.TensorInfo;
  readonly offset: number;
  readonly bytes: number;
  /** Whether each step of a recording has its own part: see `Recording`. */
  readonly perStep?: boolean;
}

export type Operand = tf.TensorInfo | Part;

/** The operands of a program. */
export interface Run {
  /** Tensors in the order of the program's buffers: those it reads, then those it writes. */
  readonly tensors: readonly Operand[];
  readonly numbers: Readonly<Record<string, number>>;
  /** Number of workgroups. */
  readonly groups: number;
}

/** Runs programs now, or records them to be run many times. */
export type Runner = Pick<WebGpuBackend, 'device' | 'lanes' | 'codeTiles' | 'run' | 'empty' | 'changed'> & {
  disposeData(dataId: object): void;
};

/** Counters since the backend was created. */
export interface GpuCounts {
  /** Programs, those of tfjs among them. */
  dispatches: number;
  submissions: number;
  /** Bytes of results that were read. */
  bytesRead: number;
}

export interface WebGpuBackend extends StockBackend {
  /** Distinguishes it from tfjs' own, which has the same name. */
  readonly isGemma3WebGpu: true;
  readonly info?: GPUAdapterInfo;
  /** The error to throw, once the device is lost or has reported an error. */
  readonly broken: Error | undefined;
  /** @throws if the device is lost, has reported an error, or was disposed of. */
  checkUsable(): void;
  readonly counts: GpuCounts;
  /** Invocations that exchange sums directly in products of single tokens, or 0: see `trial.ts`. */
  lanes: number;
  /** Variants of products of many rows, by format: see `trial.ts`. */
  codeTiles: CodeTiles;
  /** Bytes per second that a plain copy reads and writes: see `copy_speed.ts`. */
  copySpeed?: () => Promise<number>;
  /** Records a program. Does nothing for 0 workgroups. */
  run(program: Program, run: Run): void;
  /** @param perStep for each tensor, whether its offset in the buffer is passed with the command. */
  pipelineOf(program: Program, perStep?: readonly boolean[]): GPUComputePipeline;
  /** The buffer of an operand, or the part of it. */
  bindingOf(operand: Operand): GPUBufferBinding;
  /** A buffer that is not a tensor's. The caller owns it and destroys it with {@link destroyBuffer}. */
  createBuffer(descriptor: GPUBufferDescriptor): GPUBuffer;
  destroyBuffer(buffer: GPUBuffer): void;
  /** Submits the recorded commands. */
  flush(): void;
  /** Waits for the GPU. If it failed, this throws the cause, not an error that followed from it. */
  arrived<T>(values: Promise<T>): Promise<T>;
  /** A new tensor without values. */
  empty(shape: number[], dtype?: 'float32' | 'int32' | 'bool'): tf.TensorInfo;
  /** The buffer of a tensor, on the GPU. */
  bufferOf(tensor: tf.TensorInfo): GPUBuffer;
  /** Writes bytes into a tensor that nothing has used yet. Both numbers are multiples of 4. */
  writeBytes(tensor: tf.TensorInfo, bytes: Uint8Array, start: number): void;
  /** Reports that a program has written to a tensor, whose values the host may know. */
  changed(tensor: tf.TensorInfo): void;
  /** Ends the device. */
  dispose(): void;
}

const AGAIN = "Call await useBackend('webgpu'), then load the model again; or use another backend.";

const ADVICE =
  'Load the model with a dtype of fewer bits ("bfloat16", "int8", "int4"), use shorter inputs or a smaller `maxLength`, or ' +
  'dispose of unused tensors. ' +
  AGAIN;

/** An error that the GPU reported. Only the first line of its message is kept, since it may quote whole programs. */
class GpuFault extends Error {
  constructor(what: string, message: string) {
    super(`${what}: ${message.trim().split('\n')[0]!.replace(/\.$/, '')}. ${AGAIN}`);
  }
}

/** Values of tensors of int32 with at most this many are also kept on the host: ids and positions, which are checked. */
const KEPT = 2 ** 16;
/** Milliseconds to wait for a lost device's reason after a read has failed. */
const LOST_WITHIN = 1000;
/** Bytes of free buffers that tfjs may keep for later tensors. */
const POOL = 2 ** 28;

/** tfjs' pool of buffers, which grows without limit. */
interface Pool {
  freeBuffers: Map<string, GPUBuffer[]>;
  numFreeBuffers: number;
  numBytesUsed: number;
  numBytesAllocated: number;
  acquireBuffer(size: number, usage: number, mappedAtCreation?: boolean, reuse?: boolean): GPUBuffer;
}

/** The class, which extends that of the loaded package. */
export function webGpuBackendClass(
  Stock: StockBackendClass,
): new (device: GPUDevice, info?: GPUAdapterInfo) => WebGpuBackend {
  return class Gemma3WebGpuBackend extends Stock implements WebGpuBackend {
    readonly isGemma3WebGpu = true;
    broken: Error | undefined;
    lanes = 0;
    codeTiles: CodeTiles = {};
    copySpeed?: () => Promise<number>;
    readonly counts: GpuCounts = {dispatches: 0, submissions: 0, bytesRead: 0};
    private readonly pipelines = new Map<string, GPUComputePipeline>();
    /** The first error that was reported as an event. */
    private unchecked: Error | undefined;
    /** Pending results of error scopes, for calls that may have failed. */
    private readonly checks = new Set<Promise<void>>();
    /** Bytes of buffers that are not tensors'. */
    private ownBytes = 0;

    constructor(
      device: GPUDevice,
      readonly info?: GPUAdapterInfo,
    ) {
      super(device, info);
      device.addEventListener('uncapturederror', ({error}) => {
        const {message} = error;
        const memory = error.constructor.name === 'GPUOutOfMemoryError' || /out of memory/i.test(message);
        this.fail(memory ? this.outOfMemory(0) : new GpuFault('The GPU reported an error', message));
      });
      void device.lost.then(({reason, message}) => {
        if (reason === 'destroyed' && this.disposed) return;
        const why = message ? `${reason}, ${message.replace(/\.$/, '')}` : reason;
        this.broken ??= new Error(`The GPU device was lost: ${why}. ${AGAIN}`);
      });
      const pool = this.pool;
      const {acquireBuffer} = pool;
      pool.acquireBuffer = (size, usage, mapped, reuse = true) => {
        const acquire = () => acquireBuffer.call(pool, size, usage, mapped, reuse);
        const known = reuse && pool.freeBuffers.get(`${size}_${usage}`)?.length;
        return known ? acquire() : this.allocate(size, acquire);
      };
    }

    private get pool(): Pool {
      return this.bufferManager as unknown as Pool;
    }

    private get usedBytes(): number {
      return this.bufferManager.numBytesUsed + this.ownBytes;
    }

    private outOfMemory(bytes: number, used = this.usedBytes): OutOfMemoryError {
      return new OutOfMemoryError({bytes, used, limit: used, largest: this.device.limits.maxBufferSize}, ADVICE);
    }

    /** Creates a buffer. The GPU reports later whether it has the memory. */
    private allocate(bytes: number, create: () => GPUBuffer): GPUBuffer {
      if (bytes > this.device.limits.maxBufferSize) throw this.outOfMemory(bytes);
      const used = this.usedBytes;
      this.device.pushErrorScope('out-of-memory');
      try {
        return create();
      } catch (error) {
        // A buffer that the host writes to is created at once.
        throw error instanceof RangeError ? this.outOfMemory(bytes) : error;
      } finally {
        this.check(this.device.popErrorScope(), () => this.outOfMemory(bytes, used));
      }
    }

    /** Remembers a check, so that nothing that depends on it is read before its result has arrived. */
    private check(answer: Promise<GPUError | null>, reason: (error: GPUError) => Error): void {
      const check: Promise<void> = answer
        .then(error => {
          if (error) this.fail(reason(error), true);
        })
        // The device is lost: its own event says why.
        .catch(() => {})
        .finally(() => this.checks.delete(check));
      this.checks.add(check);
    }

    /**
     * Only the first error counts, since others follow from it; but errors that follow from a check may arrive before
     * it.
     */
    private fail(error: Error, checked = false): void {
      if (!this.broken || (checked && this.broken === this.unchecked)) this.broken = error;
      if (!checked) this.unchecked ??= error;
    }

    checkUsable(): void {
      if (this.broken) throw this.broken;
      if (this.disposed) throw new Error(`The backend "webgpu" was disposed of. ${AGAIN}`);
    }

    // === Used by our kernels ===

    run(program: Program, {tensors, numbers, groups}: Run): void {
      if (groups === 0) return;
      this.checkUsable();
      const pipeline = this.pipelineOf(program);
      const usage = GPUBufferUsage.COPY_DST | GPUBufferUsage.UNIFORM;
      const bytes = numbersOf(program, numbers);
      const uniforms = this.bufferManager.acquireBuffer(bytes.byteLength, usage);
      this.queue.writeBuffer(uniforms, 0, bytes);
      this.uniformPendingDisposal.push(uniforms);
      const resources = tensors.map(tensor => this.bindingOf(tensor));
      const entries = [...resources, {buffer: uniforms}].map((resource, binding) => ({binding, resource}));
      const group = this.device.createBindGroup({layout: pipeline.getBindGroupLayout(0), entries});
      this.ensureCommandEncoderReady();
      this.computePassEncoder ??= this.commandEncoder!.beginComputePass();
      for (const one of tensors) this.commandQueueOwnedIds.add(('tensor' in one ? one.tensor : one).dataId);
      this.computePassEncoder.setPipeline(pipeline);
      this.computePassEncoder.setBindGroup(0, group);
      this.computePassEncoder.dispatchWorkgroups(...gridOf(groups));
      this.dispatchCountInPass++;
      this.counts.dispatches++;
      if (this.dispatchCountInPass < tf.env().getNumber('WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE')) return;
      this.endComputePassEncoder();
      this.submitQueue();
    }

    flush(): void {
      this.endComputePassEncoder();
      if (this.commandEncoder) this.submitQueue();
    }

    bindingOf(operand: Operand): GPUBufferBinding {
      if (!('tensor' in operand)) return this.tensorToBinding(operand, true) as GPUBufferBinding;
      return {buffer: this.bufferOf(operand.tensor), offset: operand.offset, size: operand.bytes};
    }

    pipelineOf(program: Program, perStep: readonly boolean[] = []): GPUComputePipeline {
      const key = perStep.includes(true) ? `${program.name}, steps ${perStep.map(Number).join('')}` : program.name;
      const known = this.pipelines.get(key);
      if (known) return known;
      // What is wrong with the program, or not supported by the driver.
      for (const filter of ['validation', 'internal'] as const) this.device.pushErrorScope(filter);
      const pipeline = createPipeline(this.device, program, perStep);
      for (let scope = 0; scope < 2; scope++) {
        const what = `The GPU refused the program "${program.name}"`;
        this.check(this.device.popErrorScope(), ({message}) => new GpuFault(what, message));
      }
      this.pipelines.set(key, pipeline);
      return pipeline;
    }

    createBuffer(descriptor: GPUBufferDescriptor): GPUBuffer {
      const {size} = descriptor;
      const buffer = this.allocate(size, () => this.device.createBuffer(descriptor));
      this.ownBytes += size;
      return buffer;
    }

    destroyBuffer(buffer: GPUBuffer): void {
      this.ownBytes -= buffer.size;
      buffer.destroy();
    }

    empty(shape: number[], dtype: 'float32' | 'int32' | 'bool' = 'float32'): tf.TensorInfo {
      const nothing = tf.util.sizeFromShape(shape) === 0;
      return this.makeTensorInfo(shape, dtype, nothing ? tf.util.getTypedArrayFromDType(dtype, 0) : undefined);
    }

    bufferOf({dataId}: tf.TensorInfo): GPUBuffer {
      this.uploadToGPU(dataId);
      return this.tensorMap.get(dataId).resource!;
    }

    writeBytes(tensor: tf.TensorInfo, bytes: Uint8Array, start: number): void {
      this.checkUsable();
      this.queue.writeBuffer(this.bufferOf(tensor), start, bytes as Uint8Array<ArrayBuffer>);
    }

    changed({dataId}: tf.TensorInfo): void {
      this.tensorMap.get(dataId).values = null;
    }

    // === Used by tfjs ===

    override uploadToGPU(dataId: object): void {
      this.checkUsable();
      const entry = this.tensorMap.get(dataId);
      const {values, dtype} = entry;
      super.uploadToGPU(dataId);
      if (dtype === 'int32' && values && values.length <= KEPT) entry.values = values;
    }

    /** tfjs binds whole buffers. @param uploaded whether it may have to be uploaded first. */
    override tensorToBinding(tensor: tf.TensorInfo | null, upload = false): object | null {
      if (upload && tensor) this.uploadToGPU(tensor.dataId);
      const binding = super.tensorToBinding(tensor) as {buffer?: GPUBuffer} | null;
      const most = this.device.limits.maxStorageBufferBindingSize;
      if (binding?.buffer && binding.buffer.size > most) {
        throw new OutOfMemoryError({bytes: binding.buffer.size, used: 0, limit: most, largest: most}, ADVICE);
      }
      return binding;
    }

    override recordAndSubmit(...args: unknown[]): void {
      super.recordAndSubmit(...args);
      this.counts.dispatches++;
    }

    override memory(): GpuMemory {
      const {numBytesInGPU, numBytesAllocatedInGPU, unreliable} = super.memory();
      const own = this.ownBytes;
      return {
        numBytesInGPU: numBytesInGPU + own,
        numBytesAllocatedInGPU: numBytesAllocatedInGPU + own,
        unreliable,
      };
    }

    override submitQueue(): void {
      super.submitQueue();
      this.counts.submissions++;
      const {pool} = this;
      if (pool.numBytesAllocated - pool.numBytesUsed <= POOL) return;
      for (const [key, buffers] of pool.freeBuffers) {
        for (const buffer of buffers) {
          pool.numBytesAllocated -= buffer.size;
          buffer.destroy();
        }
        pool.numFreeBuffers -= buffers.length;
        pool.freeBuffers.set(key, []);
      }
    }

    override async read(dataId: object): Promise<tf.backend_util.BackendValues> {
      const {values} = this.tensorMap.get(dataId);
      // Values that the host has written are correct whatever the GPU did.
      if (values && this.tensorMap.get(dataId).resource == null) return values;
      // A check may know the cause of an earlier error.
      if (this.broken) await Promise.all(this.checks);
      this.checkUsable();
      const read = await this.arrived(super.read(dataId));
      this.counts.bytesRead += (read as Partial<tf.TypedArray>).byteLength ?? 0;
      return read;
    }

    async arrived<T>(values: Promise<T>): Promise<T> {
      try {
        const read = await values;
        // Errors of earlier computations arrive at the latest with the values; results of checks may arrive at any
        // time.
        if (this.checks.size > 0) await Promise.all(this.checks);
        if (this.broken) throw this.broken;
        return read;
      } catch (error) {
        // The reason for a lost device arrives after the failures that it causes.
        const shortly = new Promise(resolve => setTimeout(resolve, LOST_WITHIN));
        if (!this.broken) await Promise.race([this.device.lost, shortly]);
        // One turn later, the consequences of the loss have been handled.
        await new Promise(resolve => setTimeout(resolve));
        throw this.broken ?? error;
      }
    }

    override readSync(dataId: object): tf.backend_util.BackendValues {
      const {values} = this.tensorMap.get(dataId);
      if (values) return values;
      this.checkUsable();
      if (tf.getBackend() !== 'webgpu') {
        throw new ValueError(
          `Expected tensors of the backend ${show(tf.getBackend())}. Received: one that is on the backend "webgpu", whose ` +
            "values arrive only later. Call await useBackend('webgpu') before the model is used again, or load the model " +
            'again on this backend.',
        );
      }
      if (typeof OffscreenCanvas !== 'undefined') return super.readSync(dataId);
      throw new ValueError(
        'Expected a tensor on the backend "webgpu" to be read with `await tensor.data()` or `await tensor.array()`. ' +
          'Received: `dataSync` or `arraySync`, which cannot wait for a GPU here.',
      );
    }

    override dispose(): void {
      if (this.disposed) return;
      super.dispose();
      this.device.destroy();
    }
  };
}
