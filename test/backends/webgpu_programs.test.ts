/**
 * All WGSL programs compile on a device with only the features and limits that every device has. Dawn's null backend
 * checks them, which needs no GPU.
 */
import {createPipeline, type Program} from '../../src/backends/webgpu/program';
import {attention, queryTile} from '../../src/backends/webgpu/wgsl/attention';
import {
  attentionGradientKV,
  attentionGradientQ,
  attentionStatistics,
} from '../../src/backends/webgpu/wgsl/attention_gradient';
import {attentionStep, mergeParts} from '../../src/backends/webgpu/wgsl/attention_step';

import {best} from '../../src/backends/webgpu/wgsl/best';
import {packBfloat16} from '../../src/backends/webgpu/wgsl/bfloat16';
import {bestOfPieces, bestPicked, drawBest, note, penalizeSeen} from '../../src/backends/webgpu/wgsl/choose';
import {CODE_FORMATS, codeTile} from '../../src/backends/webgpu/wgsl/code_tile';
import {copy} from '../../src/backends/webgpu/wgsl/copy';
import {digits} from '../../src/backends/webgpu/wgsl/digits';
import {
  cacheUpdate,
  embedding,
  finishDense,
  gatedGelu,
  gelu,
  geluGradient,
  rotary,
} from '../../src/backends/webgpu/wgsl/elementwise';
import {matTile, matTileTransposed} from '../../src/backends/webgpu/wgsl/mat_tile';
import {matVec} from '../../src/backends/webgpu/wgsl/mat_vec';
import {
  layerNorm,
  normGradientScale,
  normGradientX,
  normStatistics,
  residual,
  rmsNorm,
} from '../../src/backends/webgpu/wgsl/norms';
import {draw, softmaxSums} from '../../src/backends/webgpu/wgsl/softmax';
import {gatherWords, modulus, transpose} from '../../src/backends/webgpu/wgsl/stock';
import {topKCandidates, topKPick} from '../../src/backends/webgpu/wgsl/top_k';
import {gather, unpack, unpackWords} from '../../src/backends/webgpu/wgsl/unpack';
import {create, globals} from '../support/dawn';

const PACKED = ['bfloat16', 'int8', 'int4'] as const;
const FORMATS = ['float32', ...PACKED] as const;
const both = [false, true];

const NONE = {positions: false, padding: false, images: false, mask: false, halves: false};
/** Of few queries and of many, with narrow heads and wide ones. */
const TILES = [1, 9].flatMap(length => [64, 256, 512].map(width => queryTile(length, width)));

const JOINED = {width: 1, splits: 32, whole: true};

const programs: Program[] = [
  ...FORMATS.flatMap(format => [
    matTile(format),
    matTileTransposed(format),
    ...[1, 2, 4, 8].map(width => matVec({formats: [format], width, splits: 32, whole: true})),
    ...[1, 16].map(splits => matVec({formats: [format], width: 2, splits, whole: false})),
    matVec({formats: [format, format, format], width: 8, splits: 32, whole: true, normed: true}),
    matVec({formats: [format, format], width: 8, splits: 32, whole: false, gated: true}),
    ...both.map(post => matVec({...JOINED, formats: [format, format, format], joined: {columns: 64, post}})),
    ...both.map(post => matVec({...JOINED, formats: [format, format], gated: true, joined: {columns: 64, post}})),
    // As wide as the memory of a workgroup allows.
    matVec({...JOINED, formats: [format, format], gated: true, size: 256, joined: {columns: 2560, post: true}}),
  ]),
  matVec({formats: ['int4', 'int8', 'bfloat16'], width: 1, splits: 8, whole: true, normed: true}),
  ...PACKED.flatMap(format => [unpack(format), gather(format)]),
  ...TILES.flatMap(tile => [
    ...both.flatMap(padding => both.map(images => attention({...NONE, ...tile, positions: true, padding, images}))),
    attention({...NONE, ...tile, mask: true}),
    attention({...NONE, ...tile}),
    attention({...NONE, ...tile, positions: true, images: true, halves: true}),
  ]),
  ...both.flatMap(normed => both.flatMap(split => both.map(halves => attentionStep({normed, split, halves})))),
  packBfloat16,
  mergeParts,
  ...both.flatMap(post => both.map(pre => residual({post, pre}))),
  ...both.flatMap(least => both.map(strict => best({type: 'float32', least, strict}))),
  best({type: 'int32', least: false, strict: false}),
  ...both.map(apart => topKPick(apart)),
  ...[
    unpackWords,
    rmsNorm,
    cacheUpdate,
    embedding,
    gatedGelu,
    gelu,
    rotary,
    draw,
    softmaxSums,
    modulus,
    transpose,
    gatherWords,
  ],
  topKCandidates,
  ...both.map(sums => drawBest({sums})),
  ...both.map(penalized => note({penalized})),
  ...[bestOfPieces, bestPicked, penalizeSeen, copy, layerNorm, normGradientScale],
  ...[attentionStatistics, attentionGradientQ, attentionGradientKV],
  ...both.flatMap(centred => [normGradientX({centred}), normStatistics({centred})]),
  ...both.map(gated => geluGradient({gated})),
  ...(['gelu', 'add', 'nothing'] as const).map(after => finishDense({after})),
];

/** Variants that need subgroups of at least so many invocations. */
const withSubgroups: Program[] = [4, 8, 16, 32, 64].flatMap(lanes => [
  ...FORMATS.flatMap(format =>
    [1, 8, 32].map(splits => matVec({formats: [format], width: 2, splits, whole: true, lanes})),
  ),
  matVec({formats: ['int4', 'int4', 'int4'], width: 1, splits: 32, whole: true, normed: true, lanes}),
  matVec({formats: ['int8', 'int8'], width: 8, splits: 32, whole: false, gated: true, lanes}),
  matVec({...JOINED, formats: ['int4', 'int4', 'int4'], joined: {columns: 64, post: true}, lanes}),
]);

/** Variants that need float16. */
const withHalves = CODE_FORMATS.map(format => codeTile(format, 'f16'));

/** Those that need products of four bytes: a feature of the language, which no device has to be asked for. */
const withPackedDots = [digits, ...CODE_FORMATS.map(format => codeTile(format, 'dot'))];

test('names tell programs apart', () => {
  const names = [...programs, ...withSubgroups, ...withHalves, ...withPackedDots].map(({name}) => name);
  expect(new Set(names).size).toBe(names.length);
});

/** Compiles programs on the null device, with the default limits. */
async function failuresOf(programs: readonly Program[], requiredFeatures: string[] = []): Promise<string[]> {
  Object.assign(globalThis, globals);
  const gpu = create(['backend=null']) as GPU;
  const adapter = (await gpu.requestAdapter())!;
  const device = await adapter.requestDevice({requiredFeatures: requiredFeatures as GPUFeatureName[]});
  expect(device.limits.maxStorageBuffersPerShaderStage).toBe(8);
  const failures: string[] = [];
  for (const program of programs) {
    device.pushErrorScope('validation');
    createPipeline(device, program);
    const error = await device.popErrorScope();
    if (error) failures.push(`${program.name}: ${error.message.split('\n')[0]}`);
  }
  device.destroy();
  return failures;
}

test('every program compiles at the default limits', async () => {
  expect(await failuresOf(programs)).toEqual([]);
});

test('variants with subgroups compile where the device has them, and only there', async () => {
  expect(await failuresOf(withSubgroups, ['subgroups'])).toEqual([]);
  expect(await failuresOf(withSubgroups)).toHaveLength(withSubgroups.length);
});

test('variants with float16 compile where the device has it, and only there', async () => {
  expect(await failuresOf(withHalves, ['shader-f16'])).toEqual([]);
  expect(await failuresOf(withHalves)).toHaveLength(withHalves.length);
});

test('variants with products of four bytes compile at the default limits', async () => {
  expect(await failuresOf(withPackedDots)).toEqual([]);
});
