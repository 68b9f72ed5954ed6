/** Every command builder fills in every word of its argument table. */
import {ColumnSumsWord, CombineWord, TransposeWord} from '../../src/backends/simd/assembly/layouts/arithmetic';
import {AttentionGradientWord, AttentionWord} from '../../src/backends/simd/assembly/layouts/attention';
import {GatherWord} from '../../src/backends/simd/assembly/layouts/embedding';
import {FusedBlocksWord, FusedBlockWord} from '../../src/backends/simd/assembly/layouts/fused_block';
import {GatedGeluWord, GeluGradientWord, GeluWord} from '../../src/backends/simd/assembly/layouts/gelu';
import {HeadLossWord} from '../../src/backends/simd/assembly/layouts/head_loss';
import {BatchMatMulWord, MatMulWord} from '../../src/backends/simd/assembly/layouts/mat_mul';
import {
  LayerNormWord,
  NormGradientScaleWord,
  NormGradientXWord,
  RmsNormWord,
} from '../../src/backends/simd/assembly/layouts/norms';
import {PackWord, UnpackWord} from '../../src/backends/simd/assembly/layouts/packing';
import {ReadWord} from '../../src/backends/simd/assembly/layouts/read';
import {RotaryWord} from '../../src/backends/simd/assembly/layouts/rotary';
import {
  ArgMaxWord,
  DrawWord,
  SoftmaxSumsWord,
  SoftmaxWord,
  TopKWord,
} from '../../src/backends/simd/assembly/layouts/sampling';
import {MAX_ARGUMENTS} from '../../src/backends/simd/assembly/numbers';
import {BFLOAT16, type Command, FLOAT32, INT8, read} from '../../src/backends/simd/engine/command';
import {columnSums, combine, transpose} from '../../src/backends/simd/kernels/arithmetic';
import {attention, attentionGradient} from '../../src/backends/simd/kernels/attention';
import {gather, unpack} from '../../src/backends/simd/kernels/embedding';
import {fusedBlock, fusedBlocks} from '../../src/backends/simd/kernels/fused_block';
import {gatedGelu, gelu, geluGradient} from '../../src/backends/simd/kernels/gelu';
import {headLoss} from '../../src/backends/simd/kernels/head_loss';
import {batchMatMul, matMul, matMulTransposed} from '../../src/backends/simd/kernels/mat_mul';
import {layerNorm, normGradientScale, normGradientX, rmsNorm} from '../../src/backends/simd/kernels/norms';
import {rotary} from '../../src/backends/simd/kernels/rotary';
import {argMax, draw, softmax, softmaxSums, topK} from '../../src/backends/simd/kernels/sampling';
import {pack} from '../../src/backends/simd/packing/pack_command';

const matrix = {rows: 8, columns: 32};
const norm = {...matrix, x: 64, epsilon: 1e-6};
const product = {type: INT8, w: 64, x: 128, m: 1, y: 192, ...matrix} as const;
const heads = {batch: 1, length: 1, heads: 2, size: 4, keyHeads: 1, width: 8, scale: 0.5};
const positions = {queryPositions: 256, queryPositionRows: 1, keyPositions: 320, keyPositionRows: 1};
const dense = {type: FLOAT32, w: 64} as const;
const source = {source: 64, sourceType: BFLOAT16, inner: 1, outerStride: 32, innerStride: 0, columnStride: 1} as const;
const block = {
  ...{x: 0, y: 64, batch: 1, hiddenDim: 8, gateDim: 8, numQueryHeads: 1, numKeyValueHeads: 1, headDim: 8},
  ...{epsilon: 1e-6, scale: 1, cachedKeys: 64, cachedValues: 64, capacity: 4, positions: 64},
  ...{cos: 64, sin: 64, tableRows: 1, norms: {preAttention: 64, preFfw: 64}},
  ...{query: dense, key: dense, value: dense, output: dense, gate: dense, up: dense, down: dense, workspace: 128},
};

/** Builds each command with as few arguments as its type allows, so that the words of omitted ones need a default. */
const commands: [name: string, command: Command, words: number][] = [
  ['read', read({at: 0, bytes: 64}), ReadWord.end],
  ['pack', pack({...source, ...matrix, target: 64, targetType: INT8, targetColumns: 32}), PackWord.end],
  ['unpack', unpack({source: 64, type: INT8, ...matrix, target: 128}), UnpackWord.end],
  ['gather', gather({table: 0, type: INT8, columns: 32, ids: 64, count: 2, target: 128}), GatherWord.end],
  ['matMul', matMul(product), MatMulWord.end],
  ['matMulTransposed', matMulTransposed(product), MatMulWord.end],
  [
    'batchMatMul',
    batchMatMul({
      a: {at: 0, stride: 1, rowStride: 1},
      b: {at: 64, stride: 1, rowStride: 1},
      y: {at: 128, stride: 1, rowStride: 1},
      ...{batch: 1, m: 1, n: 1, k: 1},
    }),
    BatchMatMulWord.end,
  ],
  ['rmsNorm', rmsNorm({...norm, scale: 0, y: 0}), RmsNormWord.end],
  ['layerNorm', layerNorm({...norm, gamma: 0, beta: 0, y: 0}), LayerNormWord.end],
  ['normGradientX', normGradientX({...norm, dy: 0, scale: 0, dx: 0, kind: 'rms'}), NormGradientXWord.end],
  [
    'normGradientScale',
    normGradientScale({...norm, dy: 0, target: 0, workspace: 0, kind: 'layer'}),
    NormGradientScaleWord.end,
  ],
  ['rotary', rotary({x: 0, cos: 0, sin: 0, y: 0, ...heads, tableRows: 1}), RotaryWord.end],
  ['gatedGelu', gatedGelu({gate: 0, value: 0, y: 0, count: 1}), GatedGeluWord.end],
  ['gelu', gelu({x: 0, y: 0, count: 1}), GeluWord.end],
  ['geluGradient', geluGradient({dy: 0, x: 0, dx: 0, count: 1}), GeluGradientWord.end],
  ['attention', attention({q: 0, k: 0, v: 0, y: 0, ...heads, ...positions}), AttentionWord.end],
  [
    'attentionGradient',
    attentionGradient({q: 0, k: 0, v: 0, dy: 0, dq: 0, dk: 0, dv: 0, workspace: 0, ...heads, ...positions}),
    AttentionGradientWord.end,
  ],
  ['fusedBlock', fusedBlock(block), FusedBlockWord.end],
  ['fusedBlocks', fusedBlocks({table: 64, count: 2}), FusedBlocksWord.end],
  [
    'headLoss',
    headLoss({
      ...{w: 0, type: FLOAT32, x: 0, targets: 0, differences: 0, sums: 0},
      ...{rows: 1, vocabulary: 8, width: 8, workspace: 0},
    }),
    HeadLossWord.end,
  ],
  ['argMax', argMax({x: 0, ...matrix, target: 0}), ArgMaxWord.end],
  ['topK', topK({x: 0, ...matrix, k: 2, values: 0, indices: 0, step: 8}), TopKWord.end],
  ['softmax', softmax({x: 0, ...matrix, y: 0}), SoftmaxWord.end],
  ['softmaxSums', softmaxSums({x: 0, ...matrix, target: 0, temperature: 1}), SoftmaxSumsWord.end],
  ['draw', draw({x: 0, ...matrix, target: 0, temperature: 1, uniforms: 0}), DrawWord.end],
  ['combine', combine('Add', {x: 0, b: 0, y: 0, count: 1, period: 1}), CombineWord.end],
  ['columnSums', columnSums({x: 0, target: 0, ...matrix}), ColumnSumsWord.end],
  ['transpose', transpose({x: 0, y: 0, shape: [2, 3], perm: [1, 0]}), TransposeWord.end],
];

test.each(commands)('%s fills in every word of its table', (_, [, words], count) => {
  expect(count).toBeLessThanOrEqual(MAX_ARGUMENTS);
  expect(words).toHaveLength(count);
  expect(Array.from(words).filter(word => !Number.isInteger(word))).toEqual([]);
});
