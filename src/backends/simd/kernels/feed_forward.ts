/** `Gemma3FeedForward`: the second half of a decoder block, a few tokens at a time. */
import {type FeedForwardAttrs, type FeedForwardName} from '../../../ops/feed_forward';
import {type KernelMap} from '../../kernel_map';
import {type Command} from '../engine/command';
import {combine} from './arithmetic';
import {gatedGelu} from './gelu';
import {kernel, rowsOf} from './kernel';
import {rmsNorm} from './norms';
import {type DenseAt, denseCommands, evenPieces, pieceSize} from './pieces';

/** Maximum bytes of gates and values at a time. */
const GATE_BYTES = 2 ** 22;
/** Tokens at a time: enough that unpacking the weights for each piece costs little; more would gain nothing. */
const [LEAST, MOST] = [32, 256];

type Required = 'x' | 'preNorm' | FeedForwardName;

const feedForwardKernel = kernel<Required, FeedForwardAttrs, 'postNorm'>((backend, inputs, attrs) => {
  const {forms, gateDim, epsilon} = attrs;
  const {rows, columns} = rowsOf(inputs.x);
  const most = Math.max(LEAST, Math.min(MOST, Math.floor(GATE_BYTES / (8 * gateDim))));
  const size = pieceSize(rows, most);
  const call = backend.call<Required | 'postNorm'>(inputs, {
    shape: inputs.x.shape,
    workspaceBytes: 4 * size * (columns + 2 * gateDim),
    preferredBank: ['gate', 'up', 'down'],
  });
  const dense = (name: FeedForwardName, outputs: number, inputs: number): DenseAt => ({
    ...{w: call.at(name), bias: 0, form: forms[name], outputs, inputs},
  });
  const gate = dense('gate', gateDim, columns);
  const up = dense('up', gateDim, columns);
  const down = dense('down', columns, gateDim);
  const preNorm = call.at('preNorm');
  const postNorm = call.maybeAt('postNorm');
  const hidden = call.workspace;
  const gates = hidden + 4 * size * columns;
  const values = gates + 4 * size * gateDim;
  function* commands(): Generator<Command> {
    for (const [first, count] of evenPieces(rows, most)) {
      const [x, y] = [call.at('x') + 4 * first * columns, call.y + 4 * first * columns];
      const norm = {rows: count, columns, epsilon, y: hidden};
      yield rmsNorm({x, scale: preNorm, ...norm});
      yield* denseCommands(gate, hidden, count, gates);
      yield* denseCommands(up, hidden, count, values);
      yield gatedGelu({gate: gates, value: values, y: gates, count: count * gateDim});
      yield* denseCommands(down, gates, count, hidden);
      if (postNorm) yield rmsNorm({x: hidden, scale: postNorm, ...norm});
      yield combine('Add', {x, b: hidden, y, count: count * columns, period: count * columns});
    }
  }
  return call.runEach(commands());
});

export const feedForwardKernels: KernelMap = {Gemma3FeedForward: feedForwardKernel};
