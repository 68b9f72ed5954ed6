/** Argument words of READ. */
export enum ReadWord {
  at,
  bytes,
  end,
}
