/** A plain copy, with which the speed of other programs is compared. */
import {type Program} from '../program';

/** Vectors of 16 bytes that an invocation copies. */
export const COPIED_VECTORS = 4;

/** x → y, four words at a time; neighbouring invocations take neighbouring vectors. */
export const copy: Program = {
  name: 'copy',
  size: 256,
  reads: {x: 'array<vec4<u32>>'},
  writes: {y: 'array<vec4<u32>>'},
  numbers: {count: 'u32'},
  body: `
  let first = group * ${COPIED_VECTORS}u * SIZE + lane;
  for (var i = 0u; i < ${COPIED_VECTORS}u; i++) {
    let at = first + i * SIZE;
    if (at < n.count) { y[at] = x[at]; }
  }`,
};
