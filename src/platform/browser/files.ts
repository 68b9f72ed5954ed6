/** Browsers have no paths. The package's files are served from next to its script. */
import {type FileSink, type PresetSink} from '../../base/byte_sink';
import {type ByteSource, type PresetSource} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {type Files} from '../contract';

export const canReadFolders = false;

/** @throws ValueError always. */
export async function openFile(path: string): Promise<ByteSource> {
  throw new ValueError(
    `Expected an http(s) address, bytes, or a file that the user chose: browsers have no paths. Received: "${path}".`,
  );
}

/** Never a folder. */
export async function openFolder(_path: string): Promise<PresetSource | undefined> {
  return undefined;
}

/** @throws ValueError always. */
export async function fileSink(path: string): Promise<FileSink> {
  throw new ValueError(
    'Expected a FileSystemFileHandle, a MemoryFile or another ByteSink to save into: browsers have no paths. ' +
      `Received: "${path}".`,
  );
}

/** @throws ValueError always. */
export async function folderSink(path: string): Promise<PresetSink> {
  throw new ValueError(
    `Expected a FileSystemDirectoryHandle or a PresetSink to save into: browsers have no paths. Received: "${path}".`,
  );
}

/** The address of a packaged preset. The path starts at `dist/browser/`, where the script is. */
export async function packagedPreset(name: string): Promise<string | undefined> {
  return new URL(`../../presets/${name}`, import.meta.url).href;
}

void ({canReadFolders, openFile, openFolder, fileSink, folderSink, packagedPreset} satisfies Files);
