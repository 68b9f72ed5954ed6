/** Loads the kernels. Each variant is a separate module, so that a page downloads only the one that it uses. */

import {inflateBase64} from '#platform/inflate';

type Level = 'relaxed' | 'plain';

const shared: Record<Level, () => Promise<{BINARY: string}>> = {
  relaxed: () => import('../generated/shared_relaxed'),
  plain: () => import('../generated/shared_plain'),
};
const unshared: typeof shared = {
  relaxed: () => import('../generated/unshared_relaxed'),
  plain: () => import('../generated/unshared_plain'),
};

/** The WebAssembly module for memory that threads share, or for one thread. */
export async function loadBinary(isShared: boolean, level: Level): Promise<ArrayBuffer> {
  const {BINARY} = await (isShared ? shared : unshared)[level]();
  return inflateBase64(BINARY);
}
