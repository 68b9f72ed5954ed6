/** The manifest in `model.json`: its names and shapes come from a file. */
import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {openCheckpoint} from '../../../src/checkpoints/open_checkpoint';
import {folderHandler, MemoryPreset, openPreset} from '../../../src/public/files';

const entry = {name: 'a', shape: [2, 2], dtype: 'float32'};
const packed = {format: 'int8', order: 'rows', shape: [4, 4]};

async function weightsOf(paths: unknown[], weights: unknown[]) {
  const json = new TextEncoder().encode(JSON.stringify({weightsManifest: [{paths, weights}]}));
  const checkpoint = await openCheckpoint(
    new MemoryPreset([
      ['model.json', json],
      ['shard', new Uint8Array(16)],
    ]),
  );
  return (await checkpoint.weights()).variables;
}

test('is read', async () => {
  expect([...(await weightsOf(['shard'], [entry])).keys()]).toEqual(['a']);
  expect([...(await weightsOf(['shard'], [{...entry, dtype: 'int32', packed}])).keys()]).toEqual(['a']);
});

test.each<[string, unknown[], unknown[]]>([
  ['a path outside the folder', ['../shard'], [entry]],
  ['an absolute path', ['/etc/passwd'], [entry]],
  ['a path of Windows', ['C:\\shard'], [entry]],
  ['a shape that is no number', ['shard'], [{...entry, shape: ['2', 2]}]],
  ['a negative shape', ['shard'], [{...entry, shape: [-2, -2]}]],
  ['an unknown packed format', ['shard'], [{...entry, packed: {...packed, format: 'int2'}}]],
  ['a packed weight without an order', ['shard'], [{...entry, packed: {...packed, order: undefined}}]],
])('is refused with %s', async (_, paths, weights) => {
  await expect(weightsOf(paths, weights)).rejects.toThrow(
    /Expected a weightsManifest of float32 and int32 weights, in files/,
  );
});

test('tf.loadLayersModel reads no file outside the folder', async () => {
  const model = {format: 'layers-model', modelTopology: {}, weightsManifest: [{paths: ['../x'], weights: [entry]}]};
  const preset = new MemoryPreset([['model.json', new TextEncoder().encode(JSON.stringify(model))]]);
  const loading = tf.loadLayersModel(folderHandler(preset as never));
  await expect(loading).rejects.toThrow(/names of files in the folder of "memory\/model\.json"\. Received: "\.\.\/x"/);
});

test('a folder on disk has nothing that is not below it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'manifest-'));
  try {
    mkdirSync(join(folder, 'preset'));
    writeFileSync(join(folder, 'secret'), 'x');
    const preset = await openPreset(join(folder, 'preset'));
    for (const path of ['../secret', 'a/../../secret', '..\\secret']) {
      expect(await preset.has(path)).toBe(false);
      await expect(preset.open(path)).rejects.toThrow(/Expected file "/);
    }
  } finally {
    rmSync(folder, {recursive: true});
  }
});
