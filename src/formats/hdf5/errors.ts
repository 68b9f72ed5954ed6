/** The sentences of the HDF5 reader's errors, so that all of them name the file and say what to do. */

/** The file's structure contradicts itself or ends early: nothing read from it could be trusted. */
export function damagedFile(file: string, expected: string, received: string): Error {
  return new Error(
    `"${file}" is a damaged HDF5 file: expected ${expected}. Received: ${received}. ` +
      `Fetch the file again, or save it again with Keras.`,
  );
}

/** Thrown for valid HDF5 that this reader does not know: about one dataset, it is no reason not to read the others. */
export class UnsupportedFeature extends Error {}

/** Valid HDF5, but something that Keras does not write; `subject` is `dataset "…"`, `group "…"` or `attribute "…"`. */
export function unsupportedFeature(
  file: string,
  subject: string,
  expected: string,
  received: string,
): UnsupportedFeature {
  return new UnsupportedFeature(
    `The ${subject} of "${file}" cannot be read: expected ${expected}. Received: ${received}. ` +
      `Load the weights in Keras and save them again uncompressed with model.save_weights().`,
  );
}

/** Bytes as an error message can show them: text where they are text, hexadecimal where not. */
export function showBytes(bytes: Uint8Array): string {
  if (bytes.length === 0) return 'no bytes';
  const codes = Array.from(bytes);
  if (codes.every(code => code >= 0x20 && code < 0x7f)) return JSON.stringify(String.fromCharCode(...codes));
  return `bytes ${codes.map(code => code.toString(16).padStart(2, '0')).join(' ')}`;
}
