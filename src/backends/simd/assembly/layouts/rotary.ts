/** Argument words of ROTARY. */
export enum RotaryWord {
  /** (batch, length, heads, width) */
  x,
  /** (tableRows, length, width / 2) */
  cos,
  /** (tableRows, length, width / 2) */
  sin,
  /** Same shape as x. */
  y,
  batch,
  length,
  heads,
  width,
  /** 1 or batch. */
  tableRows,
  /** float32: 1, or −1 to rotate back. */
  direction,
  end,
}
