import {folderSink} from '#platform/files';
import {show, ValueError} from '../base/errors';
import {DirectoryHandlePreset} from './directory_handle';
import {type PresetSink} from '../base/byte_sink';

/** The path of a folder or its `file:` address (Node), a folder of the browser, or anything that takes files. */
export type PresetTarget = string | URL | FileSystemDirectoryHandle | PresetSink;

/** @throws ValueError if it is none. */
export async function openTarget(target: PresetTarget): Promise<PresetSink> {
  if (target instanceof URL) return openTarget(target.href);
  if (typeof target === 'string' && /^(?!file:)[a-z][a-z\d+.-]+:\/\//i.test(target)) {
    throw new ValueError(
      `Expected the path of a folder to save into. Received: "${target}", an address that cannot be written to. Save into a ` +
        'folder, a FileSystemDirectoryHandle of a browser, or a MemoryPreset.',
    );
  }
  if (typeof target === 'string' && target !== '') return folderSink(target);
  const given = target as Partial<PresetSink> & Partial<FileSystemDirectoryHandle>;
  if (typeof given?.create === 'function' && typeof given.commit === 'function') return target as PresetSink;
  if (given?.kind === 'directory') return new DirectoryHandlePreset(target as FileSystemDirectoryHandle);
  throw new ValueError(
    'Expected where to save to: the path of a folder, a FileSystemDirectoryHandle or a PresetSink. ' +
      `Received: ${show(target)}.`,
  );
}
