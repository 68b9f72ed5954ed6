/**
 * How operations are defined and run. An operation has a reference, written in plain tfjs operations that run on every
 * backend, a gradient, and a kernel name under which a backend may register something faster.
 *
 * The reference also runs as a kernel, which is registered for a backend at first use. So the hand-written gradient
 * always applies, tfjs skips it for inputs that are not trained, and the tape holds one node for the operation.
 */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';

export type Inputs = Record<string, tf.Tensor>;
/** Arguments that are not tensors. Optional inputs are left out of the record of inputs, never set to undefined. */
export type Attributes = Record<string, unknown>;
type Thunks = Record<string, () => tf.Tensor>;

export interface Op<I extends Inputs, A extends Attributes> {
  /** Kernel name, `Gemma3…`. */
  readonly name: string;
  /** The definition that every kernel of this name is tested against. */
  reference(inputs: I, attrs: A): tf.Tensor;
  /** Gradients for the inputs that can be trained, by name. Lazy: tfjs calls only those it needs. */
  gradient?(dy: tf.Tensor, inputs: I, attrs: A): Thunks;
  /**
   * For each input that can be trained, the inputs of which its gradient reads more than the shape. Left out if
   * gradients read all inputs. See {@link inputsReadFor}.
   */
  readonly reads?: {readonly [input in keyof I]?: readonly (keyof I & string)[]};
}

/** Added to the attributes of an operation, so that its gradient can match the tensors saved by tfjs to input names. */
interface WithNames {
  inputNames: string[];
}

/** tfjs declares JSON-like attributes, but passes on any object unchanged. */
export const toTfjsAttrs = (attrs: object) => attrs as tf.NamedAttrMap;
const fromTfjsAttrs = <A extends Attributes>(attrs: object | undefined) => attrs as A & WithNames;

/** Names the inputs that tfjs saved, which are in the order of `names`. */
const namedInputs = <I extends Inputs>(names: readonly string[], saved: readonly tf.Tensor[]) =>
  Object.fromEntries(names.map((name, i) => [name, saved[i]!])) as I;

/** Names of kernels whose gradients are registered. */
const withGradient = new Set<string>();

const shapesOnly = {a: [], b: []};
/** {@link Op.reads} by kernel name. The initial entries are kernels of tfjs. */
const readsOf = new Map<string, Op<Inputs, Attributes>['reads']>([
  ['Add', shapesOnly],
  ['Sub', shapesOnly],
  ['Multiply', {a: ['b'], b: ['a']}],
  ['Reshape', {x: []}],
]);

/**
 * The inputs that the gradients of a kernel read. tfjs saves all inputs, but the others may be disposed before the
 * gradients are computed.
 *
 * @param wanted inputs whose gradients will be computed.
 * @returns null if nothing is known about the kernel.
 */
export function inputsReadFor(kernelName: string, wanted: readonly string[]): Set<string> | null {
  const reads = readsOf.get(kernelName);
  if (!reads || wanted.some(input => !reads[input])) return null;
  return new Set(wanted.flatMap(input => reads[input]!));
}

function registerGradient<I extends Inputs, A extends Attributes>(op: Op<I, A>): void {
  if (withGradient.has(op.name) || !op.gradient) return;
  withGradient.add(op.name);
  readsOf.set(op.name, op.reads as Op<Inputs, Attributes>['reads']);
  tf.registerGradient({
    kernelName: op.name,
    saveAllInputs: true,
    gradFunc: (dy, saved, tfjsAttrs) => {
      const attrs = fromTfjsAttrs<A>(tfjsAttrs);
      return op.gradient!(dy as tf.Tensor, namedInputs<I>(attrs.inputNames, saved), attrs);
    },
  });
}

/** An operation that may keep a second result, which only its gradient sees. */
export interface KeepingOp<I extends Inputs, A extends Attributes> {
  readonly name: string;
  reference(inputs: I, attrs: A): [result: tf.Tensor, kept?: tf.Tensor];
  gradient(dy: tf.Tensor, inputs: I, kept: tf.Tensor, attrs: A): Thunks;
}

function registerKeepingGradient<I extends Inputs, A extends Attributes>(op: KeepingOp<I, A>): void {
  if (withGradient.has(op.name)) return;
  withGradient.add(op.name);
  tf.registerGradient({
    kernelName: op.name,
    saveAllInputs: true,
    outputsToSave: [false, true],
    gradFunc: (dy, saved, tfjsAttrs) => {
      const attrs = fromTfjsAttrs<A>(tfjsAttrs);
      const {inputNames} = attrs;
      // tfjs passes one gradient per result if there are two results.
      const first = Array.isArray(dy) ? (dy[0] as tf.Tensor) : dy;
      return op.gradient(first, namedInputs<I>(inputNames, saved), saved[inputNames.length]!, attrs);
    },
  });
}

/** Runs the backend's kernel if it has one, else the reference. */
export function runOp<I extends Inputs, A extends Attributes>(op: Op<I, A>, inputs: I, attrs: A): tf.Tensor {
  registerGradient(op);
  return runKernel(op, inputs, attrs) as tf.Tensor;
}

/** Like {@link runOp}, for an operation that keeps a second result. Returns only the first. */
export function runKeepingOp<I extends Inputs, A extends Attributes>(
  op: KeepingOp<I, A>,
  inputs: I,
  attrs: A,
): tf.Tensor {
  registerKeepingGradient(op);
  const [result, kept] = runKernel(op, inputs, attrs) as [tf.Tensor, tf.Tensor?];
  // The tape holds its own reference.
  kept?.dispose();
  return result;
}

/** An operation with several results and without a gradient. */
export interface SeveralOp<I extends Inputs, A extends Attributes> {
  readonly name: string;
  reference(inputs: I, attrs: A): tf.Tensor[];
}

/** Like {@link runOp}, for an operation with several results. */
export function runSeveral<I extends Inputs, A extends Attributes>(
  op: SeveralOp<I, A>,
  inputs: I,
  attrs: A,
): tf.Tensor[] {
  return runKernel(op, inputs, attrs) as tf.Tensor[];
}

interface Kernel<I extends Inputs, A extends Attributes> {
  name: string;
  reference(inputs: I, attrs: A): tf.Tensor | [tf.Tensor, tf.Tensor?] | tf.Tensor[];
}

/** By backend name: a function that returns the reason why the backend computes references wrongly, or undefined. */
const faults = new Map<string, () => string | undefined>();

/** Refuses references on backends of tfjs that have this name and a fault. */
export function registerFault(backendName: string, fault: () => string | undefined): void {
  faults.set(backendName, fault);
}

/** @throws ValueError on a backend that computes references wrongly. */
function checkReferences(backendName: string): void {
  const fault = faults.get(backendName)?.();
  if (fault !== undefined) throw new ValueError(fault);
}

function runKernel<I extends Inputs, A extends Attributes>(op: Kernel<I, A>, inputs: I, attrs: A): unknown {
  const backendName = tf.getBackend();
  if (!tf.getKernel(op.name, backendName)) {
    checkReferences(backendName);
    tf.registerKernel({
      kernelName: op.name,
      backendName,
      kernelFunc: ({inputs, attrs}) => op.reference(inputs as object as I, fromTfjsAttrs<A>(attrs)) as tf.Tensor[],
    });
  }
  // With `saveAllInputs`, tfjs saves tensors in the order of the record. The names tell which optional inputs there
  // are.
  const withNames = {...attrs, inputNames: Object.keys(inputs)} satisfies WithNames;
  // tfjs then requires an array, as for Concat, but reads it by key. An array with only named keys satisfies both.
  const record = Object.assign([], inputs) as object as tf.NamedTensorMap;
  return tf.engine().runKernel(op.name, record, toTfjsAttrs(withNames));
}

/**
 * Runs an operation that is the gradient of another one. While tfjs records (for gradients of gradients), the reference
 * runs instead, because its plain operations have gradients.
 */
export function runGradient<I extends Inputs, A extends Attributes>(op: Op<I, A>, inputs: I, attrs: A): tf.Tensor {
  return tapeIsOn() ? op.reference(inputs, attrs) : runOp(op, inputs, attrs);
}

/** Like {@link runGradient}, for an operation that computes several gradients at once. Returns them in its order. */
export function runGradients<I extends Inputs, A extends Attributes>(
  op: SeveralOp<I, A>,
  inputs: I,
  attrs: A,
): tf.Tensor[] {
  return tapeIsOn() ? op.reference(inputs, attrs) : runSeveral(op, inputs, attrs);
}

/** True while tfjs records for a gradient. The method exists but is missing from tfjs' typings. */
export function tapeIsOn(): boolean {
  return (tf.engine() as unknown as {isTapeOn(): boolean}).isTapeOn();
}

/**
 * Disposes tensors that only a gradient may still need, unless tfjs records for one: `tf.tidy` would keep them until its
 * end, together with everything that is computed after them.
 */
export function release(...tensors: tf.Tensor[]): void {
  if (!tapeIsOn()) tf.dispose(tensors);
}

/** {@link release}s a tensor and returns its replacement. */
export function replaced(before: tf.Tensor, after: tf.Tensor): tf.Tensor {
  if (after !== before) release(before);
  return after;
}
