/** Refuses addresses where a path is expected. */
import {ValueError} from '../base/errors';

const INSTEAD = {
  folder: 'Save into a folder, a FileSystemDirectoryHandle of a browser, or a MemoryPreset.',
  file: 'Save into a file, a FileSystemFileHandle of a browser, or a MemoryFile.',
};

/**
 * Without this check, an address would be taken for the path of a folder named "https:".
 *
 * @throws ValueError on addresses other than those of files on this machine.
 */
export function refuseAddress(target: string, kind: keyof typeof INSTEAD): void {
  if (!/^(?!file:)[a-z][a-z\d+.-]+:\/\/|^(data|blob):/i.test(target)) return;
  throw new ValueError(
    `Expected the path of a ${kind} to save into. Received: "${target}", an address, which cannot be written to. ` +
      INSTEAD[kind],
  );
}
