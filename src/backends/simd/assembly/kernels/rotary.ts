/** Rotary position embedding. */
import {RotaryWord} from '../layouts/rotary';
import {argument, begin, chunkOf, claim, end, floatArgument, pointer} from '../parts/threads';

/** Rotates pairs of values, one from each half of a head, by the given angles. y may be x. */
export function rotateRow(x: usize, cos: usize, sin: usize, y: usize, width: i32, direction: f32): void {
  const half = (<usize>(width >> 1)) << 2;
  const vectors = half & ~15;
  const signs = f32x4.splat(direction);
  let at: usize = 0;
  for (; at < vectors; at += 16) {
    const c = v128.load(cos + at);
    const s = f32x4.mul(v128.load(sin + at), signs);
    const a = v128.load(x + at);
    const b = v128.load(x + half + at);
    v128.store(y + at, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)));
    v128.store(y + half + at, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)));
  }
  for (; at < half; at += 4) {
    const c = load<f32>(cos + at);
    const s = load<f32>(sin + at) * direction;
    const a = load<f32>(x + at);
    const b = load<f32>(x + half + at);
    store<f32>(y + at, a * c - b * s);
    store<f32>(y + half + at, b * c + a * s);
  }
}

/** ROTARY: rotates every head of every token. */
export function rotary(): void {
  const length = argument(RotaryWord.length);
  const heads = argument(RotaryWord.heads);
  const width = argument(RotaryWord.width);
  const tokens = argument(RotaryWord.batch) * length;
  const row = (<usize>width) << 2;
  while (claim(tokens, chunkOf(tokens, <usize>heads * row))) {
    for (let token = begin; token < end; token++) {
      const angles = <usize>(argument(RotaryWord.tableRows) == 1 ? token % length : token) * (row >> 1);
      for (let head = 0; head < heads; head++) {
        const at = (<usize>token * <usize>heads + <usize>head) * row;
        rotateRow(
          pointer(RotaryWord.x) + at,
          pointer(RotaryWord.cos) + angles,
          pointer(RotaryWord.sin) + angles,
          pointer(RotaryWord.y) + at,
          width,
          floatArgument(RotaryWord.direction),
        );
      }
    }
  }
}
