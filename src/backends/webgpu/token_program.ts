/** Decoding steps on the GPU: see `ops/token_program.ts`. */
import type * as tf from '@tensorflow/tfjs';
import {
  type ProgramModel,
  type ProgramStep,
  type StoredMatrix,
  type TokenChoice,
  type TokenProgram,
} from '../../ops/token_program';
import {canChoose, runChoice} from './kernels/choice';
import {
  type BlockInputs,
  disposeStream,
  headWidth,
  normedOf,
  runBlock,
  type Stream,
  streamOf,
} from './kernels/decoder_block';
import {lookUp, multiply} from './kernels/products';
import {ALIGNMENT, Recording} from './recording';
import {type Part, type WebGpuBackend} from './webgpu_backend';
import {MAT_VEC_ROWS} from './wgsl/mat_vec';

/** Maximum number of steps in a submission. Windows resets a GPU that is busy for two seconds. */
export const MOST_STEPS = 8;

/** Creates a program; undefined if it cannot choose in this way, or for this many rows. */
export function createTokenProgram(
  backend: WebGpuBackend,
  choice: TokenChoice,
  rows: number,
): TokenProgram | undefined {
  return rows <= MAT_VEC_ROWS && canChoose(choice) ? new GpuTokenProgram(backend, choice, rows) : undefined;
}

/** Offsets of the numbers of a step, in 4-byte words, and how many there are. */
interface StepLayout {
  readonly angles: readonly number[];
  readonly uniforms: number;
  readonly index: number;
  readonly words: number;
}

function layOut(rows: number, widths: readonly number[]): StepLayout {
  let words = 0;
  const place = (count: number) => {
    const at = words;
    words += Math.ceil((4 * count) / ALIGNMENT) * (ALIGNMENT / 4);
    return at;
  };
  const angles = widths.map(width => place(rows * (1 + width)));
  return {angles, uniforms: place(rows), index: place(1), words};
}

/** A buffer that the host reads, and whether it is being read. */
interface Reader {
  readonly buffer: GPUBuffer;
  busy: boolean;
}

/** Everything that depends on the tensors of the model and its cache. */
interface Recorded {
  /** The data of the tensors in order: those outside of blocks, and those of blocks. */
  readonly outer: readonly object[];
  readonly inner: readonly object[];
  readonly layout: StepLayout;
  readonly steps: tf.TensorInfo;
  readonly recording: Recording;
}

/** The tensors of blocks by the array of blocks, which is the same from token to token. */
const lists = new WeakMap<ProgramModel['blocks'], readonly tf.Tensor[]>();

function tensorsOf({blocks}: ProgramModel): readonly tf.Tensor[] {
  let list = lists.get(blocks);
  if (!list) lists.set(blocks, (list = blocks.flatMap(({tensors}) => Object.values(tensors))));
  return list;
}

/** After an assignment, a weight has different data. */
const isData = (tensors: readonly tf.Tensor[], data: readonly object[]): boolean =>
  tensors.length === data.length && tensors.every(({dataId}, i) => dataId === data[i]);

class GpuTokenProgram implements TokenProgram {
  private texts: Parameters<TokenProgram['start']>[0] | undefined;
  private recorded: Recorded | undefined;
  private readonly next: tf.TensorInfo;
  private readonly history: tf.TensorInfo;
  private seen: tf.TensorInfo | undefined;
  private readonly readers: Reader[] = [];
  /** The numbers of steps on their way to the GPU. */
  private numbers = new Float32Array(0);
  private disposed = false;

  constructor(
    private readonly backend: WebGpuBackend,
    private readonly choice: TokenChoice,
    private readonly rows: number,
  ) {
    this.next = backend.empty([rows], 'int32');
    this.history = backend.empty([MOST_STEPS, rows], 'int32');
  }

  start(texts: Parameters<TokenProgram['start']>[0]): void {
    this.texts = texts;
  }

  async run(model: ProgramModel, steps: readonly ProgramStep[]): Promise<Int32Array> {
    const {backend, rows} = this;
    backend.checkUsable();
    // Submitted before anything is written: commands recorded so far may use the same memory.
    backend.flush();
    this.begin(model);
    const {recording, layout, steps: target} = this.recordedFor(model);
    this.writeSteps(steps, layout, target);
    const encoder = backend.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    steps.forEach((_, i) => recording.encode(pass, i));
    pass.end();
    const reader = this.reader();
    const bytes = 4 * steps.length * rows;
    encoder.copyBufferToBuffer(backend.bufferOf(this.history), 0, reader.buffer, 0, bytes);
    backend.queue.submit([encoder.finish()]);
    backend.counts.submissions++;
    backend.counts.dispatches += steps.length * recording.length;
    backend.counts.bytesRead += bytes;
    const mapped = reader.buffer.mapAsync(GPUMapMode.READ, 0, bytes).catch((error: unknown) => {
      // The text has ended meanwhile, and with it the buffer: these tokens are no longer needed.
      if (!this.disposed) throw error;
    });
    await backend.arrived(mapped);
    if (this.disposed) throw new Error('internal: the tokens of a disposed program.');
    const tokens = new Int32Array(reader.buffer.getMappedRange(0, bytes).slice(0));
    reader.buffer.unmap();
    reader.busy = false;
    return tokens;
  }

  /** Writes the first tokens, after `start`. */
  private begin({vocabulary}: ProgramModel): void {
    const {backend, texts, rows, choice} = this;
    if (!texts) return;
    this.texts = undefined;
    const tokens = Int32Array.from(texts, ({tokens}) => tokens.at(-1)!);
    backend.queue.writeBuffer(backend.bufferOf(this.next), 0, tokens);
    if (!choice.penalties) return;
    const seen = new Int32Array(rows * vocabulary);
    texts.forEach(({tokens, promptLength}, row) =>
      tokens.forEach((token, at) => {
        const place = row * vocabulary + token;
        seen[place] = (seen[place]! | 1) + (at < promptLength ? 0 : 2);
      }),
    );
    this.seen ??= backend.empty([rows, vocabulary], 'int32');
    backend.queue.writeBuffer(backend.bufferOf(this.seen), 0, seen);
  }

  private writeSteps(steps: readonly ProgramStep[], layout: StepLayout, target: tf.TensorInfo): void {
    const {words} = layout;
    const numbers = this.numbers;
    const integers = new Uint32Array(numbers.buffer);
    steps.forEach(({positions, angles, uniforms}, i) => {
      const first = i * words;
      angles.forEach(({cos, sin}, kind) => {
        let at = first + layout.angles[kind]!;
        for (const part of [positions, cos, sin]) {
          numbers.set(part, at);
          at += part.length;
        }
      });
      numbers.set(uniforms, first + layout.uniforms);
      integers[first + layout.index] = i;
    });
    this.backend.queue.writeBuffer(this.backend.bufferOf(target), 0, numbers, 0, steps.length * words);
  }

  /** A free buffer. There are as many as concurrent reads. */
  private reader(): Reader {
    let reader = this.readers.find(({busy}) => !busy);
    if (!reader) {
      const usage = GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ;
      const buffer = this.backend.createBuffer({size: 4 * MOST_STEPS * this.rows, usage});
      this.readers.push((reader = {buffer, busy: false}));
    }
    reader.busy = true;
    return reader;
  }

  /** The commands for these tensors: those of the previous call, unless a cache has grown or weights have changed. */
  private recordedFor(model: ProgramModel): Recorded {
    const {recorded} = this;
    const {embedding, finalNorm, head} = model;
    const outer = [embedding.tensor, finalNorm.scale, head.tensor];
    const inner = tensorsOf(model);
    if (recorded && isData(outer, recorded.outer) && isData(inner, recorded.inner)) return recorded;
    this.forget();
    const dataOf = (tensors: readonly tf.Tensor[]) => tensors.map(({dataId}) => dataId);
    return (this.recorded = {outer: dataOf(outer), inner: dataOf(inner), ...this.record(model)});
  }

  private record(model: ProgramModel): Omit<Recorded, 'outer' | 'inner'> {
    const {backend, rows, choice, next, history, seen} = this;
    const widths: number[] = [];
    for (const {angles, tensors} of model.blocks) widths[angles] = headWidth(tensors.keys!);
    const layout = layOut(rows, widths);
    this.numbers = new Float32Array(MOST_STEPS * layout.words);
    const steps = backend.empty([this.numbers.length]);
    const part = (first: number, count: number): Part => ({
      ...{tensor: steps, offset: 4 * first, bytes: 4 * count},
      perStep: true,
    });
    const recording = new Recording(backend, 4 * layout.words);
    const {vocabulary, width, embedding, blocks, finalNorm, head} = model;
    const matrix = ({tensor, form}: StoredMatrix) => ({
      ...{tensor, format: form.packing?.format ?? ('float32' as const), inner: form.inner},
      ...{rows: vocabulary, columns: width},
    });
    let stream: Stream = streamOf(lookUp(recording, next, matrix(embedding), embedding.factor));
    const size = {rows, columns: width};
    for (const {tensors, attrs, angles: kind} of blocks) {
      for (const cached of [tensors.keys!, tensors.values!]) backend.changed(cached);
      const angles = part(layout.angles[kind]!, rows * (1 + widths[kind]!));
      const own = {...size, epsilon: attrs.epsilon};
      const after = runBlock(recording, stream, tensors as unknown as BlockInputs, attrs, own, {angles, tables: rows});
      disposeStream(recording, stream);
      stream = after;
    }
    const place = {y: recording.empty([rows, width]), first: 0};
    const end = {...size, epsilon: finalNorm.epsilon};
    const {normed} = normedOf(recording, stream, place, end, finalNorm.scale);
    const logits = multiply(recording, normed, matrix(head));
    const uniforms = part(layout.uniforms, rows);
    runChoice(recording, logits, choice, {seen, next, history, uniforms, step: part(layout.index, 1)});
    return {layout, steps, recording};
  }

  private forget(): void {
    if (!this.recorded) return;
    this.recorded.recording.dispose();
    this.backend.disposeData(this.recorded.steps.dataId);
    this.recorded = undefined;
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.forget();
    for (const {buffer} of this.readers) this.backend.destroyBuffer(buffer);
    for (const {dataId} of [this.next, this.history, ...(this.seen ? [this.seen] : [])]) {
      this.backend.disposeData(dataId);
    }
  }
}
