/** Which key each query sees, told by positions, padding, images and a mask; see `src/ops/attention.ts`. */
import {argument, pointer} from './threads';

let length: i32 = 1;
let size: i32 = 0;
let left: i32 = 0;
let right: i32 = 0;
let bidirectional: bool = false;
let queryPositions: usize = 0;
let sharedQueryPositions: bool = false;
let keyPositions: usize = 0;
let sharedKeyPositions: bool = false;
let padding: usize = 0;
let queryImages: usize = 0;
let keyImages: usize = 0;
let mask: usize = 0;
let sharedMask: bool = false;

/**
 * Twelve arguments from `at` on: left, right, bidirectional, query positions, their rows, key positions, their rows,
 * padding, query images, key images, mask, its rows.
 */
export function setVisibility(at: i32, length_: i32, size_: i32): void {
  length = length_;
  size = size_;
  left = argument(at);
  right = argument(at + 1);
  bidirectional = argument(at + 2) != 0;
  queryPositions = pointer(at + 3);
  sharedQueryPositions = argument(at + 4) == 1;
  keyPositions = pointer(at + 5);
  sharedKeyPositions = argument(at + 6) == 1;
  padding = pointer(at + 7);
  queryImages = pointer(at + 8);
  keyImages = pointer(at + 9);
  mask = pointer(at + 10);
  sharedMask = argument(at + 11) == 1;
}

function intAt(at: usize, index: i32): i32 {
  return load<i32>(at + ((<usize>index) << 2));
}

export function sees(batch: i32, t: i32, s: i32): bool {
  const position = intAt(queryPositions, sharedQueryPositions ? t : batch * length + t);
  const key = intAt(keyPositions, sharedKeyPositions ? s : batch * size + s);
  const distance = position - key;
  if (key < 0 || distance > left || -distance > right) return false;
  if (!bidirectional && distance < 0) {
    if (queryImages == 0) return false;
    const image = intAt(queryImages, batch * length + t);
    if (image <= 0 || image != intAt(keyImages, batch * size + s)) return false;
  }
  if (padding != 0) {
    if (intAt(padding, batch * size + s) == 0) return false;
    if (bidirectional && intAt(padding, batch * size + t) == 0) return false;
  }
  return mask == 0 || load<f32>(mask + ((<usize>(((sharedMask ? 0 : batch) * length + t) * size + s)) << 2)) != 0;
}
