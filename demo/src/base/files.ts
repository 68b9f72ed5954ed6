/** Files from and for the user. */
import {h} from './dom';

/** Offers bytes or text as a download. */
export function download(name: string, content: BlobPart, type = 'application/octet-stream'): void {
  const href = URL.createObjectURL(new Blob([content], {type}));
  const link = h('a', {href, download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** A file as an address that holds its bytes, for JSON. */
export async function dataAddress(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error ?? new Error('The picture could not be read.'));
    reader.readAsDataURL(blob);
  });
}

/** The files of an input. Afterwards the same files can be chosen again. */
export function takeFiles(input: HTMLInputElement): File[] {
  const files = Array.from(input.files ?? []);
  input.value = '';
  return files;
}
