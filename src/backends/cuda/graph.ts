/**
 * Formulas as graphs of TensorFlow, on its CPU device. Between the operations of a graph TensorFlow needs no call from
 * JavaScript, and it writes results over inputs that nothing else reads, which are in the caches then.
 */
import {OutOfMemoryError} from '../../base/errors';
import {type Device, FLOAT, INT32, type Program, type ShortAttributes} from './device';
import {type GraphNode, loadGraph, type NodeAttribute} from './native/saved_model';

/** What a formula is written with. For a {@link Program}, H are handles, and for a graph, names. */
export interface Operations<H> {
  run(operation: string, attributes: ShortAttributes, ...inputs: H[]): H;
  add(a: H, b: H): H;
  mul(a: H, b: H): H;
  square(x: H): H;
  rsqrt(x: H): H;
  sigmoid(x: H): H;
  scale(x: H, factor: number): H;
  plus(x: H, value: number): H;
  /** √Σx², with the axis. */
  length(x: H, axis: number): H;
  sum(x: H, axis: number): H;
  /** The halves of an axis of 2 · half change places. */
  exchanged(x: H, half: number, axis: number): H;
  /** A result from one that nothing else reads. */
  then(x: H, next: (x: H) => H): H;
}

const T = {T: FLOAT};
const REDUCE = {T: FLOAT, Tidx: INT32, keep_dims: true};
const ROLL = {T: FLOAT, Tshift: INT32, Taxis: INT32};

/** The nodes of a graph. */
export class GraphBuilder implements Operations<string> {
  readonly nodes: GraphNode[] = [];

  input(name: string): string {
    this.nodes.push([name, 'Placeholder', [], {dtype: FLOAT}]);
    return name;
  }

  run(operation: string, attributes: Readonly<Record<string, NodeAttribute>>, ...inputs: string[]): string {
    const name = `n${this.nodes.length}`;
    this.nodes.push([name, operation, inputs, attributes]);
    return name;
  }

  private float = (value: number) => this.run('Const', {dtype: FLOAT, value: Float32Array.of(value)});
  private int = (value: number) => this.run('Const', {dtype: INT32, value: Int32Array.of(value)});

  add = (a: string, b: string) => this.run('AddV2', T, a, b);
  mul = (a: string, b: string) => this.run('Mul', T, a, b);
  square = (x: string) => this.run('Square', T, x);
  rsqrt = (x: string) => this.run('Rsqrt', T, x);
  sigmoid = (x: string) => this.run('Sigmoid', T, x);
  scale = (x: string, factor: number) => this.mul(x, this.float(factor));
  plus = (x: string, value: number) => this.add(x, this.float(value));
  length = (x: string, axis: number) => this.run('EuclideanNorm', REDUCE, x, this.int(axis));
  sum = (x: string, axis: number) => this.run('Sum', REDUCE, x, this.int(axis));
  exchanged = (x: string, half: number, axis: number) => this.run('Roll', ROLL, x, this.int(half), this.int(axis));
  then = (x: string, next: (x: string) => string) => next(x);
}

/** Results of these inputs, by name. */
type Formula<K extends string> = <H>(o: Operations<H>, inputs: Readonly<Record<K, H>>) => H[];

/** Handles of the inputs in this order → handles of the results; undefined if TensorFlow refuses an operation. */
type Graph = (inputs: readonly number[]) => number[] | undefined;

const graphs = new WeakMap<object, Map<string, Graph>>();

/**
 * A graph, which is loaded once; undefined on a device without graphs.
 *
 * @param build returns the names of the results.
 */
export function graphOf(
  device: Device,
  key: string,
  names: readonly string[],
  build: (graph: GraphBuilder) => string[],
): Graph | undefined {
  if (!device.graphs) return undefined;
  let own = graphs.get(device.binding);
  if (!own) graphs.set(device.binding, (own = new Map()));
  if (!own.has(key)) own.set(key, load(device, names, build));
  return own.get(key);
}

function load({binding}: Device, names: readonly string[], build: (graph: GraphBuilder) => string[]): Graph {
  const builder = new GraphBuilder();
  const outputs = (list: readonly string[]) => list.map(name => `${name}:0`).join();
  names.forEach(name => builder.input(name));
  const results = outputs(build(builder));
  let handle: number | undefined;
  // Some fused operations are not there for all processors, which TensorFlow only says when they run.
  let refused = false;
  return (inputs: readonly number[]) => {
    if (refused) return undefined;
    try {
      handle ??= loadGraph(binding, builder.nodes);
      return binding.runSavedModel(handle, inputs, outputs(names), results).map(({id}) => id);
    } catch (error) {
      if (error instanceof OutOfMemoryError) throw error;
      refused = true;
      return undefined;
    }
  };
}

/**
 * Runs a formula, as a graph or as operations.
 *
 * @param key names the formula with all numbers that it contains.
 */
export function runFormula<K extends string>(
  p: Program,
  key: string,
  inputs: Readonly<Record<K, number>>,
  formula: Formula<K>,
): number[] {
  const names = Object.keys(inputs) as K[];
  const build = (graph: GraphBuilder) =>
    formula(graph, Object.fromEntries(names.map(name => [name, name])) as Record<string, string> as Record<K, string>);
  const results = graphOf(p.device, key, names, build)?.(names.map(name => inputs[name]));
  return results?.map(id => p.own(id)) ?? formula(p, inputs);
}
