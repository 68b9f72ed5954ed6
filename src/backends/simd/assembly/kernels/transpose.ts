/** Reorders the axes of a tensor: patches of images, heads of attention, kernels. */
import {TRANSPOSE_AXES, TransposeWord} from '../layouts/arithmetic';
import {argument, begin, chunkOf, claim, end, pointer} from '../parts/threads';

/**
 * TRANSPOSE: y is x with its axes in a different order. Shapes with fewer than six axes get leading axes of size 1. The
 * last two axes are copied in stripes of 16 rows, so that the values read and the values written both stay in the
 * cache.
 */
export function transpose(): void {
  const height = argument(TransposeWord.sizes + TRANSPOSE_AXES - 2);
  const width = argument(TransposeWord.sizes + TRANSPOSE_AXES - 1);
  let outer = 1;
  for (let axis = 0; axis < TRANSPOSE_AXES - 2; axis++) outer *= argument(TransposeWord.sizes + axis);
  const stripes = (height + 15) >> 4;
  const units = outer * stripes;
  while (claim(units, chunkOf(units, (<usize>width) << 6))) {
    for (let unit = begin; unit < end; unit++) {
      const row = (unit % stripes) << 4;
      copyStripe(unit / stripes, row, min(16, height - row), height, width);
    }
  }
}

/** Copies rows of matrix o. */
function copyStripe(o: i32, row: i32, rows: i32, height: i32, width: i32): void {
  let from = pointer(TransposeWord.x);
  for (let axis = TRANSPOSE_AXES - 3, rest = o; axis >= 0; axis--) {
    const size = argument(TransposeWord.sizes + axis);
    from += (<usize>(rest % size) * pointer(TransposeWord.strides + axis)) << 2;
    rest /= size;
  }
  const to = pointer(TransposeWord.y) + ((<usize>o * <usize>height * <usize>width) << 2);
  copyRows(from, to, row, rows, width);
}

function copyRows(from: usize, to: usize, row: i32, rows: i32, width: i32): void {
  const down = pointer(TransposeWord.strides + TRANSPOSE_AXES - 2) << 2;
  const right = pointer(TransposeWord.strides + TRANSPOSE_AXES - 1) << 2;
  const step = (<usize>width) << 2;
  from += <usize>row * down;
  to += <usize>row * step;
  if (right == 4) {
    for (; rows > 0; rows--, from += down, to += step) memory.copy(to, from, step);
    return;
  }
  for (let c: usize = 0; c < <usize>width; c++) {
    let source = from + c * right;
    let target = to + (c << 2);
    for (let r = 0; r < rows; r++, source += down, target += step) store<f32>(target, load<f32>(source));
  }
}
