/** Sums, differences and products of two tensors. The second may repeat: biases, residuals, factors. */
import {CombineWord, Operation} from '../layouts/arithmetic';
import {argument, begin, claimValues, end, pointer} from '../parts/threads';

function combine(operation: i32, a: v128, b: v128): v128 {
  if (operation == Operation.add) return f32x4.add(a, b);
  if (operation == Operation.subtract) return f32x4.sub(a, b);
  return f32x4.mul(a, b);
}

/** Combines `count` values of x with a single value of b if `step` is 0, or with `count` values if it is 4. */
function combineRow(operation: i32, x: usize, b: usize, step: usize, y: usize, count: i32): void {
  const bytes = (<usize>count) << 2;
  const same = v128.load32_splat(b);
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) {
    v128.store(y + at, combine(operation, v128.load(x + at), step == 0 ? same : v128.load(b + at)));
  }
  for (; at < bytes; at += 4) {
    const other = step == 0 ? same : v128.load32_splat(b + at);
    store<f32>(y + at, f32x4.extract_lane(combine(operation, v128.load32_splat(x + at), other), 0));
  }
}

/** COMBINE: y[i] = x[i] ∘ b[i mod period]. */
export function combineTensors(): void {
  const operation = argument(CombineWord.operation);
  const count = argument(CombineWord.count);
  const period = argument(CombineWord.period);
  while (claimValues(count)) {
    for (let i = begin; i < end;) {
      const j = period == 1 ? 0 : i % period;
      const some = period == 1 ? end - i : min(end - i, period - j);
      const at = (<usize>i) << 2;
      combineRow(
        operation,
        pointer(CombineWord.x) + at,
        pointer(CombineWord.b) + ((<usize>j) << 2),
        period == 1 ? 0 : 4,
        pointer(CombineWord.y) + at,
        some,
      );
      i += some;
    }
  }
}
