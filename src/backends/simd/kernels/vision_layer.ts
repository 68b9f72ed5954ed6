/**
 * `Gemma3VisionEncoderLayer`: a layer of the vision encoder in pieces. An image of 4,096 patches of width 1,152 takes 19
 * MB, and the plain path needs five times that besides its input. Here the result is the only other tensor of that size.
 * It first holds what attention computes, a few heads at a time, whose queries, keys and values are in the workspace.
 */
import {type VisionDenseName, type VisionLayerAttrs, type VisionLayerInput} from '../../../ops/vision_layer';
import {type KernelMap} from '../../kernel_map';
import {type Command, ROW_GROUP} from '../engine/command';
import {combine} from './arithmetic';
import {attention} from './attention';
import {gelu} from './gelu';
import {kernel} from './kernel';
import {layerNorm} from './norms';
import {type DenseAt, denseCommands, evenPieces, pieceSize, someOutputs} from './pieces';

/**
 * Maximum bytes of queries, keys and values of the heads that attend at a time. Four heads of the model's encoders fit:
 * products with fewer outputs take longer to prepare their rows, and read little of each page of weights.
 */
const HEAD_BYTES = 2 ** 24;
/** Patches at a time: in projections for attention, which have few outputs, and in the steps after it. */
const ROWS_BEFORE = 512;
const ROWS_AFTER = 256;

/** How many heads attend at a time. Packed kernels can be divided only between groups of rows. */
export function headsAtOnce(length: number, numHeads: number, headDim: number): number {
  let step = 1;
  while ((step * headDim) % ROW_GROUP !== 0) step++;
  const most = Math.floor(HEAD_BYTES / (3 * 4 * length * headDim));
  return Math.min(numHeads, Math.max(step, most - (most % step)));
}

const visionLayerKernel = kernel<VisionLayerInput, VisionLayerAttrs>((backend, inputs, attrs) => {
  const {forms, numHeads, intermediateDim, epsilons} = attrs;
  const [batch, length, width] = inputs.x.shape as [number, number, number];
  const headDim = width / numHeads;
  const atOnce = headsAtOnce(length, numHeads, headDim);
  const [rowsBefore, rowsAfter] = [pieceSize(length, ROWS_BEFORE), pieceSize(length, ROWS_AFTER)];
  // Both halves of the layer use the same workspace.
  const before = {positions: length, normed: rowsBefore * width, attended: rowsBefore * atOnce * headDim};
  const heads = length * atOnce * headDim;
  const after = {normed: rowsAfter * width, inner: rowsAfter * intermediateDim, outer: rowsAfter * width};
  const size = (parts: object) => (Object.values(parts) as number[]).reduce((sum, part) => sum + part, 0);
  const call = backend.call(inputs, {
    shape: inputs.x.shape,
    workspaceBytes: 4 * Math.max(size(before) + 3 * heads, size(after)),
    preferredBank: Object.keys(forms) as VisionDenseName[],
  });
  const dense = (name: VisionDenseName, outputs: number, inputs: number): DenseAt => ({
    ...{w: call.at(name), bias: call.at(`${name}Bias`), form: forms[name], outputs, inputs},
  });
  const norm = (name: 'norm1' | 'norm2', x: number, rows: number, y: number) =>
    layerNorm({
      ...{x, rows, columns: width, epsilon: epsilons[name], y},
      ...{gamma: call.at(`${name}Gamma`), beta: call.at(`${name}Beta`)},
    });

  /** Attention of some heads over the patches of one image, without the projection that follows. */
  function* attend(image: number, firstHead: number, count: number): Generator<Command> {
    const [first, columns] = [firstHead * headDim, count * headDim];
    const positions = call.workspace;
    const normed = positions + 4 * before.positions;
    const attended = normed + 4 * before.normed;
    const q = attended + 4 * before.attended;
    const [k, v] = [q + 4 * heads, q + 8 * heads];
    const {floats, ints} = call.words;
    for (let i = 0; i < length; i++) ints[positions / 4 + i] = i;
    const projections = (['query', 'key', 'value'] as const).map(name =>
      someOutputs(dense(name, width, width), first, columns),
    );
    for (const [row, rows] of evenPieces(length, ROWS_BEFORE)) {
      yield norm('norm1', call.at('x') + 4 * (image + row) * width, rows, normed);
      for (const [i, y] of [q, k, v].entries()) {
        yield* denseCommands(projections[i]!, normed, rows, y + 4 * row * columns);
      }
    }
    for (const [row, rows] of evenPieces(length, ROWS_BEFORE)) {
      const y = call.y + 4 * (image + row) * width;
      const whole = columns === width;
      yield attention({
        ...{q: q + 4 * row * columns, k, v, y: whole ? y : attended},
        ...{batch: 1, length: rows, heads: count, size: length, keyHeads: count, width: headDim},
        ...{scale: 1 / Math.sqrt(headDim), bidirectional: true},
        ...{queryPositions: positions + 4 * row, queryPositionRows: 1, keyPositions: positions, keyPositionRows: 1},
      });
      if (whole) continue;
      for (let i = 0; i < rows; i++) {
        const from = attended / 4 + i * columns;
        floats.copyWithin(y / 4 + i * width + first, from, from + columns);
      }
    }
  }

  /** Projects what attention computed for some patches, adds the input, and runs the feed-forward network. */
  function* finish(first: number, rows: number): Generator<Command> {
    const normed = call.workspace;
    const inner = normed + 4 * after.normed;
    const outer = inner + 4 * after.inner;
    const [x, y] = [call.at('x') + 4 * first * width, call.y + 4 * first * width];
    const count = rows * width;
    yield* denseCommands(dense('output', width, width), y, rows, outer);
    yield combine('Add', {x, b: outer, y, count, period: count});
    yield norm('norm2', y, rows, normed);
    yield* denseCommands(dense('inner', intermediateDim, width), normed, rows, inner);
    yield gelu({x: inner, y: inner, count: rows * intermediateDim});
    yield* denseCommands(dense('outer', width, intermediateDim), inner, rows, outer);
    yield combine('Add', {x: y, b: outer, y, count, period: count});
  }

  function* commands(): Generator<Command> {
    for (let image = 0; image < batch * length; image += length) {
      for (let head = 0; head < numHeads; head += atOnce) {
        yield* attend(image, head, Math.min(atOnce, numHeads - head));
      }
      for (const [row, rows] of evenPieces(length, ROWS_AFTER)) yield* finish(image + row, rows);
    }
  }
  return call.runEach(commands());
});

export const visionLayerKernels: KernelMap = {Gemma3VisionEncoderLayer: visionLayerKernel};
