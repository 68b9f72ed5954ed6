/** Decoding steps from token to token on the device: see `ops/token_program.ts`. The host reads 4 bytes of each token. */
import * as tf from '@tensorflow/tfjs';
import {
  type ProgramModel,
  type ProgramStep,
  type StoredMatrix,
  type TokenChoice,
  type TokenProgram,
} from '../../ops/token_program';
import {type Device, FLOAT, INT32, type Program} from './device';
import {canChoose, drawn, mostProbable} from './kernels/choice';
import {type BlockInputs, norm, runBlock} from './kernels/decoder_block';
import {lookUpPacked, multiplyPacked} from './kernels/matrices';

/** Steps in one call: two calls are under way at once, so a GPU computes one while the host reads the other. */
export const MOST_STEPS = 1;

/** Creates a program; undefined if it cannot choose in this way. */
export const createTokenProgram = (device: Device, choice: TokenChoice, rows: number): TokenProgram | undefined =>
  canChoose(choice) ? new DeviceTokenProgram(device, choice, rows) : undefined;

class DeviceTokenProgram implements TokenProgram {
  /** Handles: the tokens that the next step reads. */
  private next: number | undefined;

  constructor(
    private readonly device: Device,
    private readonly choice: TokenChoice,
    private readonly rows: number,
  ) {}

  start(texts: Parameters<TokenProgram['start']>[0]): void {
    this.dispose();
    const tokens = Int32Array.from(texts, ({tokens}) => tokens.at(-1)!);
    this.next = this.device.binding.createTensor([this.rows], INT32, tokens);
  }

  async run(model: ProgramModel, steps: readonly ProgramStep[]): Promise<Int32Array> {
    const {binding} = this.device;
    const seen = steps.map(step => this.step(model, step));
    // The caller may start the next ones before this waits for the device.
    await Promise.resolve();
    try {
      return Int32Array.from(seen.flatMap(id => Array.from(binding.tensorDataSync(id), asToken)));
    } finally {
      for (const id of seen) binding.deleteTensor(id);
    }
  }

  /** Runs a step, and returns the handle of its tokens for the host. */
  private step(model: ProgramModel, {positions, angles, uniforms}: ProgramStep): number {
    const {device, rows} = this;
    const {blocks, embedding} = model;
    // A program for each block, so that little is kept.
    let stream = device.program(p => {
      const found = p.scale(lookUp(p, embedding, this.next!, rows), embedding.factor);
      return p.release(found);
    });
    for (const {tensors, attrs, angles: kind} of blocks) {
      const before = stream;
      stream = device.program(p => {
        const own = {...attrs, positions, ...angles[kind]!};
        return p.release(runBlock(p, p.own(before), tensors as unknown as BlockInputs, own));
      });
    }
    return device.program(p => {
      const logits = this.logits(p, p.own(stream), model);
      return this.choose(p, logits, model.vocabulary, uniforms);
    });
  }

  private logits(p: Program, states: number, {finalNorm: {scale, epsilon}, head}: ProgramModel): number {
    const normed = norm(p, states, this.rows, scale, epsilon);
    const {tensor, form} = head;
    if (form.packing) return multiplyPacked(p, normed, tensor);
    // (V, D), or (D, V).
    return p.matMul(normed, p.of(tensor), false, form.inner === 1);
  }

  private choose(p: Program, logits: number, vocabulary: number, uniforms: readonly number[]): number {
    const {device, rows, choice} = this;
    const before = this.next!;
    let seen: number;
    if (choice.draw === null) {
      const [next, checked] = mostProbable(p, logits, [rows, vocabulary]);
      this.next = p.release(next);
      seen = p.release(checked);
    } else {
      const tokens = drawn(p, logits, [rows, vocabulary], choice.draw, uniforms);
      // Where the host chooses, it does not use what follows.
      const next = tf.tidy(() => tf.maximum(tokens, tf.scalar(0, 'int32')));
      this.next = keep(device, next);
      seen = keep(device, tokens);
      tf.dispose([next, tokens]);
    }
    device.binding.deleteTensor(before);
    return seen;
  }

  dispose(): void {
    if (this.next !== undefined) this.device.binding.deleteTensor(this.next);
    this.next = undefined;
  }
}

/** A token as the host gets it; negative if it has to choose. */
const asToken = (value: number): number => (Number.isNaN(value) ? -1 : value);

const IDENTITY = {T: INT32};

/** A handle of its own for the values of an int32 tensor. */
const keep = (device: Device, tensor: tf.Tensor): number =>
  device.program(p => p.release(p.run('Identity', IDENTITY, p.of(tensor))));

/** Rows of the embedding, (rows, width). */
function lookUp(p: Program, {tensor, form}: StoredMatrix, ids: number, rows: number): number {
  return form.packing ? lookUpPacked(p, tensor, ids, rows) : p.gather(p.of(tensor), ids, FLOAT);
}
