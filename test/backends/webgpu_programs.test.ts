/**
 * All programs in WGSL compile on a device with nothing but what every device has. Dawn's null backend checks them, which
 * needs no GPU.
 */
import {createPipeline, type Program} from '../../src/backends/webgpu/program';
import {attention, attentionStep} from '../../src/backends/webgpu/wgsl/attention';
import {best} from '../../src/backends/webgpu/wgsl/best';
import {bestOfPieces, bestPicked, drawBest, note, penalizeSeen} from '../../src/backends/webgpu/wgsl/choose';
import {cacheUpdate, embedding, gatedGelu, gelu, rotary} from '../../src/backends/webgpu/wgsl/elementwise';
import {matTile, matTileTransposed} from '../../src/backends/webgpu/wgsl/mat_tile';
import {matVec} from '../../src/backends/webgpu/wgsl/mat_vec';
import {residual, rmsNorm} from '../../src/backends/webgpu/wgsl/norms';
import {draw, softmaxSums} from '../../src/backends/webgpu/wgsl/softmax';
import {modulus, transpose} from '../../src/backends/webgpu/wgsl/stock';
import {topKCandidates, topKPick} from '../../src/backends/webgpu/wgsl/top_k';
import {gather, unpack, unpackWords} from '../../src/backends/webgpu/wgsl/unpack';
import {create, globals} from '../support/dawn';

const PACKED = ['bfloat16', 'int8', 'int4'] as const;
const FORMATS = ['float32', ...PACKED] as const;
const both = [false, true];

const programs: Program[] = [
  ...FORMATS.flatMap(format => [
    matTile(format),
    matTileTransposed(format),
    ...[1, 2, 4, 8].map(width => matVec({formats: [format], width, splits: 32, whole: true})),
    ...[1, 16].map(splits => matVec({formats: [format], width: 2, splits, whole: false})),
    matVec({formats: [format, format, format], width: 8, splits: 32, whole: true, normed: true}),
    matVec({formats: [format, format], width: 8, splits: 32, whole: false, gated: true}),
  ]),
  matVec({formats: ['int4', 'int8', 'bfloat16'], width: 1, splits: 8, whole: true, normed: true}),
  ...PACKED.flatMap(format => [unpack(format), gather(format)]),
  ...both.flatMap(padding => both.map(images => attention({padding, images, mask: false}))),
  attention({padding: false, images: false, mask: true}),
  ...both.map(normed => attentionStep({normed})),
  ...both.flatMap(post => both.map(pre => residual({post, pre}))),
  ...both.flatMap(least => both.map(strict => best({type: 'float32', least, strict}))),
  best({type: 'int32', least: false, strict: false}),
  ...both.map(apart => topKPick(apart)),
  ...[unpackWords, rmsNorm, cacheUpdate, embedding, gatedGelu, gelu, rotary, draw, softmaxSums, modulus, transpose],
  topKCandidates,
  ...both.map(sums => drawBest({sums})),
  ...both.map(penalized => note({penalized})),
  ...[bestOfPieces, bestPicked, penalizeSeen],
];

test('names tell programs apart', () => {
  expect(new Set(programs.map(({name}) => name)).size).toBe(programs.length);
});

test('every program compiles at the default limits', async () => {
  Object.assign(globalThis, globals);
  const gpu = create(['backend=null']) as GPU;
  const device = await (await gpu.requestAdapter())!.requestDevice();
  expect(device.limits.maxStorageBuffersPerShaderStage).toBe(8);
  const failures: string[] = [];
  for (const program of programs) {
    device.pushErrorScope('validation');
    createPipeline(device, program);
    const error = await device.popErrorScope();
    if (error) failures.push(`${program.name}: ${error.message.split('\n')[0]}`);
  }
  device.destroy();
  expect(failures).toEqual([]);
});
