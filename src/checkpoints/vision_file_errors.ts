/** Error messages for `mmproj` where it cannot be used. Loaded only when needed. */
import {ValueError} from '../base/errors';

export const misplaced = (name: string, isOpen: boolean): ValueError =>
  new ValueError(
    isOpen
      ? `Expected \`mmproj\` where a GGUF file is opened. Received: "${name}", which is open: pass it to ` +
          '`files.openCheckpoint(preset, {mmproj})`.'
      : `Expected \`mmproj\` only with a GGUF file, which has its vision encoder in another file. Received: "${name}".`,
  );
