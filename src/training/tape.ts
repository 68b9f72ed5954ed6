/**
 * Uses tfjs' tape for one stage of a model at a time. `tf.grads` keeps every tensor of the forward and backward pass
 * until the last gradient is computed. Here each stage is differentiated on its own, and keeps only the tensors its
 * gradients need. A gradient may read only tensors that are inputs or results of its operation: by the time it runs,
 * tensors that it merely closes over, as with `tf.customGrad`, may be disposed.
 */
import * as tf from '@tensorflow/tfjs';
import {inputsReadFor} from '../ops/op';

/** An entry of tfjs' tape: one kernel call. */
interface TapeNode {
  kernelName: string;
  inputs: Record<string, tf.Tensor>;
  outputs: tf.Tensor[];
  /** Kept for the gradient: inputs in order, then outputs. */
  saved: tf.Tensor[];
}

/**
 * The part of tfjs' engine that controls the tape, which tfjs' type declarations lack. None of its public gradient
 * functions accepts both an upstream gradient and variables.
 */
interface TapeEngine {
  startTape(): void;
  endTape(): void;
  state: {activeTape: TapeNode[] | null};
  gradients(
    f: () => tf.Tensor,
    xs: readonly tf.Tensor[],
    dy: tf.Tensor | null,
    allowNoGradients: boolean,
  ): {grads: (tf.Tensor | undefined)[]};
}
const engine = (): TapeEngine => tf.engine() as unknown as TapeEngine;

const disposeSaved = (nodes: readonly TapeNode[]) => tf.dispose(nodes.flatMap(({saved}) => saved));

/** Frees saved tensors that are not needed for the gradients of xs. */
function prune(nodes: readonly TapeNode[], xs: readonly tf.Tensor[]): void {
  const reached = new Set(xs.map(({id}) => id));
  for (const {kernelName, inputs, outputs, saved} of nodes) {
    const names = Object.keys(inputs);
    const wanted = names.filter(name => reached.has(inputs[name]!.id));
    if (wanted.length === 0) {
      tf.dispose(saved);
      continue;
    }
    for (const {id} of outputs) reached.add(id);
    const read = inputsReadFor(kernelName, wanted);
    if (read) tf.dispose(saved.filter((_, i) => i < names.length && !read.has(names[i]!)));
  }
}

/** Runs `call` with the tape on. Keeps no tensor if it throws. */
function recorded(call: () => tf.Tensor): {value: tf.Tensor; nodes: readonly TapeNode[]} {
  const {state} = engine();
  let value: tf.Tensor | undefined;
  engine().startTape();
  try {
    value = tf.tidy(call);
    return {value, nodes: state.activeTape!};
  } finally {
    engine().endTape();
    if (!value) disposeSaved(state.activeTape!);
    state.activeTape = null;
  }
}

/** The result of a computation, and the tape to differentiate it. */
export class Recording {
  /** Disposed by the caller. */
  readonly value: tf.Tensor;
  private readonly nodes: readonly TapeNode[];

  /** Runs a computation to be differentiated with respect to xs. Call `dispose` when done. */
  constructor(
    call: () => tf.Tensor,
    private readonly xs: readonly tf.Tensor[],
  ) {
    ({value: this.value, nodes: this.nodes} = recorded(call));
    prune(this.nodes, xs);
  }

  /**
   * The gradients of xs, undefined where the value does not depend on an x. May be called once.
   *
   * @param dy gradient of the value; null means ones.
   */
  gradients(dy: tf.Tensor | null): (tf.Tensor | undefined)[] {
    const replay = () => {
      engine().state.activeTape!.push(...this.nodes);
      return this.value;
    };
    return engine().gradients(replay, this.xs, dy, true).grads;
  }

  /** Frees the tensors kept for gradients. */
  dispose(): void {
    disposeSaved(this.nodes);
  }
}
