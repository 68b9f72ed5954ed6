/** Web pages that servers send instead of files. */

/** Bytes of a file that tell whether it is a web page. */
export const PAGE_START = 512;

/** Whether the first bytes of a file are those of a web page. No file of a preset begins like one. */
export function isPage(bytes: Uint8Array): boolean {
  const text = new TextDecoder().decode(bytes.subarray(0, PAGE_START));
  return /^\s*(<!--[^]*?-->\s*)*<(!doctype\s+html|html|head|body)\b/i.test(text);
}
