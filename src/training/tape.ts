/**
 * tfjs' tape for a part of a model. Gradients of tfjs keep all that was computed, there and back, until the last of them is
 * made; here each part is gone back over by itself, and of what it computed that alone is kept which its gradients read.
 */
import * as tf from '@tensorflow/tfjs';
import {inputsReadFor} from '../ops/op';

/** A kernel that ran: an entry of tfjs' tape. */
interface TapeNode {
  kernelName: string;
  inputs: Record<string, tf.Tensor>;
  outputs: tf.Tensor[];
  /** For its gradients: inputs in their order, then results. */
  saved: tf.Tensor[];
}

/** tfjs' own functions of gradients take none of what comes behind, or none of variables. The tape is not in its typings. */
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

const forget = (nodes: readonly TapeNode[]) => tf.dispose(nodes.flatMap(({saved}) => saved));

/** Frees what no gradient for xs reads. */
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

/** What ran while tfjs recorded; of something that throws nothing is kept. */
function recorded(call: () => tf.Tensor): {value: tf.Tensor; nodes: readonly TapeNode[]} {
  const {state} = engine();
  let value: tf.Tensor | undefined;
  engine().startTape();
  try {
    value = tf.tidy(call);
    return {value, nodes: state.activeTape!};
  } finally {
    engine().endTape();
    if (!value) forget(state.activeTape!);
    state.activeTape = null;
  }
}

/** A result, and the way back from it. */
export class Recording {
  /** The caller disposes it. */
  readonly value: tf.Tensor;
  private readonly nodes: readonly TapeNode[];

  /** Runs something of which gradients for xs will be wanted. `dispose` is to be called in the end. */
  constructor(
    call: () => tf.Tensor,
    private readonly xs: readonly tf.Tensor[],
  ) {
    ({value: this.value, nodes: this.nodes} = recorded(call));
    prune(this.nodes, xs);
  }

  /** Gradients for xs, from that of the value; null: ones. Undefined where the value does not depend on an x. Only once. */
  gradients(dy: tf.Tensor | null): (tf.Tensor | undefined)[] {
    const again = () => {
      engine().state.activeTape!.push(...this.nodes);
      return this.value;
    };
    return engine().gradients(again, this.xs, dy, true).grads;
  }

  /** Frees what the gradients read. */
  dispose(): void {
    forget(this.nodes);
  }
}
