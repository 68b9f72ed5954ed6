/** Error messages of the HDF5 reader. All name the file and say what to do. */

/** The file's structure is inconsistent or ends early, so nothing read from it can be trusted. */
export function damagedFile(file: string, expected: string, received: string): Error {
  return new Error(
    `"${file}" is a damaged HDF5 file: expected ${expected}. Received: ${received}. ` +
      `Fetch the file again, or save it again with Keras.`,
  );
}

/** Valid HDF5 that this reader does not support. If it concerns one dataset, the others can still be read. */
export class UnsupportedFeature extends Error {}

/** An error about a feature that Keras does not write; `subject` is `dataset "…"`, `group "…"` or `attribute "…"`. */
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

/** Bytes in an error message: as text if they are printable, otherwise in hexadecimal. */
export function showBytes(bytes: Uint8Array): string {
  if (bytes.length === 0) return 'no bytes';
  const codes = Array.from(bytes);
  if (codes.every(code => code >= 0x20 && code < 0x7f)) return JSON.stringify(String.fromCharCode(...codes));
  return `bytes ${codes.map(code => code.toString(16).padStart(2, '0')).join(' ')}`;
}
