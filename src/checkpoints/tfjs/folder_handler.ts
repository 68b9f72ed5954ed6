/** Folders for `tf.loadLayersModel` and `model.save`. In Node, tfjs itself reads only http addresses. */
import * as tf from '@tensorflow/tfjs';
import {canReadFolders} from '#platform/files';
import {intoFolder, writeAll} from '../../base/byte_sink';
import {type PresetSource, readAll} from '../../base/byte_source';
import {show, ValueError} from '../../base/errors';
import {readJson, writeJson} from '../../base/json';
import {isSafePath} from '../../base/safe_path';
import {openTarget, type PresetTarget} from '../../files/open_folder';
import {openPreset} from '../../hub/open_preset';
import {isWeightFile} from '../all';
import {TFJS_FILE} from './manifest';
import {SHARD_SIZE, shardNames} from './write_shards';

/**
 * A handler for a folder that holds `model.json` and the shards it names:
 * `tf.loadLayersModel(folderHandler('./model'))`, `model.save(folderHandler('./model'))`. In browsers the folder is a
 * `FileSystemDirectoryHandle`.
 *
 * @throws ValueError, when it is used, if there is no such folder or no such model in it.
 */
export function folderHandler(folder: PresetTarget): tf.io.IOHandler {
  return {
    load: async () => {
      // Every folder that can be written can also be read, except for a custom sink without the methods of a source.
      const named = typeof folder === 'string' || folder instanceof URL;
      const source = named ? folder : ((await openTarget(folder)) as unknown as PresetSource);
      return loadArtifacts(await openPreset(source));
    },
    save: artifacts => saveArtifacts(folder, artifacts),
  };
}

async function loadArtifacts(source: PresetSource): Promise<tf.io.ModelArtifacts> {
  if (!(await source.has(TFJS_FILE))) {
    throw new ValueError(
      `Expected "${TFJS_FILE}" in "${source.name}". Received a folder without it. "gemma3 convert --to tfjs" writes one.`,
    );
  }
  const model = (await readJson(source, TFJS_FILE)) as unknown as tf.io.ModelJSON;
  return tf.io.getModelArtifactsForJSON(model, async manifest => {
    const buffers: ArrayBuffer[] = [];
    for (const path of manifest.flatMap(({paths}) => paths)) {
      if (typeof path !== 'string' || !isSafePath(path)) {
        throw new ValueError(
          `Expected names of files in the folder of "${source.name}/${TFJS_FILE}". Received: ${show(path)}.`,
        );
      }
      buffers.push((await readAll(source, path)).buffer as ArrayBuffer);
    }
    return [manifest.flatMap(({weights}) => weights), buffers];
  });
}

async function saveArtifacts(folder: PresetTarget, artifacts: tf.io.ModelArtifacts): Promise<tf.io.SaveResult> {
  const buffers = [artifacts.weightData ?? []].flat();
  const total = buffers.reduce((sum, {byteLength}) => sum + byteLength, 0);
  const paths = shardNames(total);
  const manifest = [{paths, weights: artifacts.weightSpecs ?? []}];
  const sink = await openTarget(folder);
  const write = async () => {
    const whole = new tf.io.CompositeArrayBuffer(buffers);
    for (const [i, path] of paths.entries()) {
      await writeAll(sink, path, new Uint8Array(whole.slice(i * SHARD_SIZE, (i + 1) * SHARD_SIZE)));
    }
    const {weightData: _data, weightSpecs: _specs, ...rest} = artifacts;
    await writeJson(sink, TFJS_FILE, {...rest, weightsManifest: manifest}, 0);
  };
  await intoFolder(sink, write, isWeightFile);
  return {modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(artifacts)};
}

/** The folder of an address such as `file:///…/model.json`, or of the folder's own address. */
function folderOf(url: string): string {
  return decodeURIComponent(url.slice('file://'.length)).replace(/\/[^/]*\.json$/, '');
}

/** True while other routers are asked, so that this one does not answer. */
let asking = false;

/**
 * A router for `file://`. It leaves the address to the router of another package, such as tfjs-node, if there is one,
 * because tfjs refuses an address that two routers accept.
 */
function router(others: (url: string) => tf.io.IOHandler[]): (url: string | string[]) => tf.io.IOHandler {
  return url => {
    if (asking || typeof url !== 'string' || !url.startsWith('file://')) return null as never;
    asking = true;
    try {
      return others(url).length ? (null as never) : folderHandler(folderOf(url));
    } finally {
      asking = false;
    }
  };
}

if (canReadFolders) {
  tf.io.registerLoadRouter(router(url => tf.io.getLoadHandlers(url)));
  tf.io.registerSaveRouter(router(url => tf.io.getSaveHandlers(url)));
}
