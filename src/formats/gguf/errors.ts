/** Errors of GGUF files. */
import {ValueError} from '../../base/errors';

/** The error for a file that is not what the format says. */
export const damaged = (file: string, expected: string, received: string): ValueError =>
  new ValueError(
    `"${file}" is not a GGUF file, or is damaged: expected ${expected}. Received: ${received}. Fetch the file again.`,
  );
