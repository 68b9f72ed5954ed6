/**
 * Unpacks weights with plain tfjs operations. The kernels are tested against this, and other backends use it for
 * weights that this backend packed. The formats are described in `../engine/command.ts`.
 */
import * as tf from '@tensorflow/tfjs';
import {unpackBfloat16} from '../../../ops/unpack';
import {type PackedFormat} from '../../../weights/dtype';
import {COLUMN_BLOCK, ROW_GROUP} from '../engine/command';

/** Digits of words in a base, lowest first. Floor modulus and floor division split them exactly for either sign. */
function digits(words: tf.Tensor, base: number, count: number): tf.Tensor {
  const parts: tf.Tensor[] = [];
  const size = tf.scalar(base, 'int32');
  let rest = words;
  for (let i = 0; i < count; i++) {
    const low = tf.cast(tf.mod(rest, size), 'int32');
    parts.push(low);
    rest = tf.cast(tf.floorDiv(tf.sub(rest, low), size), 'int32');
  }
  return tf.stack(parts, -1);
}

/** (groups, words) → (groups · 8, columns) */
function unpackPairs(bits: tf.Tensor): tf.Tensor2D {
  const [groups, words] = bits.shape as [number, number];
  const split = tf.reshape(bits, [groups, words / ROW_GROUP, ROW_GROUP]);
  const rows = tf.reshape(tf.transpose(split, [0, 2, 1]), [groups * ROW_GROUP, words / ROW_GROUP]);
  return unpackBfloat16(rows as tf.Tensor2D);
}

/** Eight bfloat16 numbers per block, from word `from` on: (groups, blocks, words) → (groups, 8, blocks, 1, 1). */
function perRow(blocks: tf.Tensor, from: number): tf.Tensor {
  const [groups, count] = blocks.shape as [number, number];
  const words = tf.reshape(tf.slice(blocks, [0, 0, from], [-1, -1, ROW_GROUP / 2]), [groups * count, ROW_GROUP / 2]);
  const values = tf.reshape(unpackBfloat16(words as tf.Tensor2D), [groups, count, ROW_GROUP]);
  return tf.reshape(tf.transpose(values, [0, 2, 1]), [groups, ROW_GROUP, count, 1, 1]);
}

/**
 * The integers of each block, which begin at word `from`, in `turns` of one word per row →
 * (groups, 8, blocks, turns, integers per word).
 */
function numbers(blocks: tf.Tensor, from: number, turns: number, split: (words: tf.Tensor) => tf.Tensor): tf.Tensor {
  const [groups, count] = blocks.shape as [number, number];
  const words = tf.slice(blocks, [0, 0, from], [-1, -1, turns * ROW_GROUP]);
  return tf.transpose(split(tf.reshape(words, [groups, count, turns, ROW_GROUP])), [0, 3, 1, 2, 4]);
}

const inBlocks = (bits: tf.Tensor, words: number) => tf.reshape(bits, [bits.shape[0]!, -1, words]);

const asRows = (values: tf.Tensor) => {
  const [groups, , count] = values.shape as [number, number, number];
  return tf.reshape(values, [groups * ROW_GROUP, count * COLUMN_BLOCK]) as tf.Tensor2D;
};

/**
 * A block has 4 words of scales and 64 of bytes. Bytes of even columns hold the number + 128, and those of odd columns
 * the number in two's complement.
 */
function unpackInt8(bits: tf.Tensor): tf.Tensor2D {
  const blocks = inBlocks(bits, 68);
  const bytes = numbers(blocks, 4, 8, words => digits(words, 256, 4));
  const negative = tf.cast(tf.greaterEqual(bytes, tf.scalar(128, 'int32')), 'float32');
  // Subtracts 128 in even columns, and 256 from negative numbers in odd columns.
  const signed = tf.sub(bytes, tf.add(tf.mul(negative, tf.tensor1d([0, 256, 0, 256])), tf.tensor1d([128, 0, 128, 0])));
  return asRows(tf.mul(signed, perRow(blocks, 0)));
}

/**
 * A block has 4 words of scales, 4 of minima and 32 of nibbles. In every eight columns, low nibbles hold columns 0 to
 * 3, and high nibbles columns 4 to 7.
 */
function unpackInt4(bits: tf.Tensor): tf.Tensor2D {
  const blocks = inBlocks(bits, 40);
  const nibbles = numbers(blocks, 8, 4, words => {
    const [low, high] = tf.unstack(digits(digits(words, 256, 4), 16, 2), -1) as [tf.Tensor, tf.Tensor];
    return tf.concat([low, high], -1);
  });
  return asRows(tf.add(tf.mul(nibbles, perRow(blocks, 0)), perRow(blocks, 4)));
}

export const unpackers: Readonly<Record<PackedFormat, (bits: tf.Tensor) => tf.Tensor2D>> = {
  bfloat16: bits => tf.tidy(() => unpackPairs(bits)),
  int8: bits => tf.tidy(() => unpackInt8(bits)),
  int4: bits => tf.tidy(() => unpackInt4(bits)),
};
