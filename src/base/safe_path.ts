/** Paths that come from a file or a server. */

/** Whether a path stays inside the folder that it is relative to, on every system. */
export const isSafePath = (path: string): boolean =>
  path !== '' &&
  !/[\\:\u0000-\u001f]/.test(path) &&
  path.split('/').every(part => part !== '' && part !== '.' && part !== '..' && !/[. ]$/.test(part));
