/** What a browser does instead of `node.ts`: there are no folders, and the package's files lie beside its script. */
import {ValueError} from '../../base/errors';
import {type FileSink, type PresetSink} from '../../base/byte_sink';
import {HttpPreset} from '../../files/http';
import {type ByteSource, type PresetSource} from '../../base/byte_source';

/** Browsers have no paths. */
export const canReadFolders = false;

/** See `canReadFolders`. */
export async function openFolder(_path: string): Promise<PresetSource | undefined> {
  return undefined;
}

/** See `node_folder_sink.ts`. */
export async function folderSink(path: string): Promise<PresetSink> {
  throw new ValueError(
    `Expected a FileSystemDirectoryHandle or a PresetSink to save into: browsers have no paths. Received: "${path}".`,
  );
}

/** See `node_folder_sink.ts`. */
export async function fileSink(path: string): Promise<FileSink> {
  throw new ValueError(
    `Expected a FileSystemFileHandle, a MemoryFile or another ByteSink to save into: browsers have no paths. Received: "${path}".`,
  );
}

/** See `node.ts`. */
export async function openFile(path: string): Promise<ByteSource> {
  throw new ValueError(
    `Expected an address that begins with http, bytes, or a file that was chosen: browsers have no paths. Received: "${path}".`,
  );
}

const PACKAGED = ['gemma3_tiny'];

/** A preset that ships with the package, served from where its script was loaded. */
export async function packagedPreset(name: string): Promise<PresetSource | undefined> {
  if (!PACKAGED.includes(name)) return undefined;
  return new HttpPreset(new URL(`../../presets/${name}`, import.meta.url).href);
}
