/** Opens folders to save presets into, in every form that users pass: paths, handles and sinks. */
import {folderSink} from '#platform/files';
import {type PresetSink} from '../base/byte_sink';
import {describeValue, ValueError} from '../base/errors';
import {DirectoryHandlePreset} from './directory_handle';
import {refuseAddress} from './refuse_address';

/** The path or `file:` address of a folder (Node), a browser's directory handle, or any {@link PresetSink}. */
export type PresetTarget = string | URL | FileSystemDirectoryHandle | PresetSink;

/** Whether a string is an address, but not one of a file on this computer. */
export const isRemote = (text: string): boolean => /^(?!file:)[a-z][a-z\d+.-]+:\/\//i.test(text);

/**
 * Opens a folder for writing.
 *
 * @throws ValueError if the target is not a {@link PresetTarget}, or cannot be written.
 */
export async function openTarget(target: PresetTarget): Promise<PresetSink> {
  if (target instanceof URL) return openTarget(target.href);
  if (typeof target === 'string' && target !== '') {
    refuseAddress(target, 'folder');
    return folderSink(target);
  }
  const given = target as Partial<PresetSink> & Partial<FileSystemDirectoryHandle>;
  if (typeof given?.create === 'function' && typeof given.commit === 'function') return target as PresetSink;
  if (given?.kind === 'directory') return new DirectoryHandlePreset(target as FileSystemDirectoryHandle);
  throw new ValueError(
    'Expected a folder to save into: a path, a FileSystemDirectoryHandle or a PresetSink. ' +
      `Received: ${describeValue(target)}.`,
  );
}
