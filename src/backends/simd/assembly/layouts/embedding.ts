/** Argument words of GATHER. */
export enum GatherWord {
  /** Packed, or float32 (…, columns). */
  table,
  type,
  columns,
  /** int32 (count) */
  ids,
  count,
  /** float32 (count, columns) */
  target,
  end,
}
