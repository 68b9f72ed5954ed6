/** Inputs and outputs of generation without a preprocessor: token ids as tensors. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {type Prompt} from '../generation/decoder';
import {type TokenLogprobs} from '../generation/logprobs';
import {type GenerateOptions} from './generate_options';
import {VISION_TENSORS, visionOfRows, type VisionTensors} from './vision_tensors';

/**
 * Token ids, (B, T) or (T), padded at the end to the length of the result, and a mask of the same shape: 1 for the
 * prompt, 0 for padding. A model with vision also takes images, as a preprocessor prepares them: all three tensors or
 * none.
 */
export type TokenInputs = {token_ids: tf.Tensor; padding_mask: tf.Tensor} & Partial<VisionTensors>;

/** Generated token ids, with the log probabilities of the new tokens of each row. */
export type TokensWithLogprobs = TokenInputs & {logprobs: TokenLogprobs[][]};

/** The prompt of each row, and the shape of the tensor that they were read from: (B, T) or (T). */
export interface TokenRows {
  prompts: Prompt[];
  shape: number[];
}

/** @throws ValueError on options of `generate` that need a preprocessor. */
export function checkTokenOptions({stopStrings, session, maxLength, stripPrompt}: GenerateOptions): void {
  if (stopStrings || session) {
    throw new ValueError(
      'A `preprocessor` must be attached to the model for `stopStrings` and `session`, which work on text.',
    );
  }
  if (maxLength !== undefined || stripPrompt !== undefined) {
    throw new ValueError(
      'Without a preprocessor the length of the result is that of the inputs: pad them to that length, and leave out ' +
        '`maxLength` and `stripPrompt`.',
    );
  }
}

/**
 * Reads the prompts from tensors. The caller disposes their images.
 *
 * @throws ValueError unless the tensors match, and on padding before the end of a prompt.
 */
export async function readTokenInputs(inputs: TokenInputs): Promise<TokenRows> {
  const given = inputs && typeof inputs === 'object' ? Object.keys(inputs) : [];
  if (
    !(inputs?.token_ids instanceof tf.Tensor) ||
    !(inputs.padding_mask instanceof tf.Tensor) ||
    given.some(key => key !== 'token_ids' && key !== 'padding_mask' && !VISION_TENSORS.includes(key))
  ) {
    throw new ValueError(
      'Without a preprocessor, expected {token_ids, padding_mask} as tensors, with images also ' +
        `{${VISION_TENSORS.join(', ')}}. Received: ` +
        `${typeof inputs === 'string' ? show(inputs) : given.join(', ') || show(inputs)}.`,
    );
  }
  const {token_ids: ids, padding_mask: mask} = inputs;
  if (ids.rank > 2 || ids.rank < 1 || ids.shape.join() !== mask.shape.join()) {
    throw new ValueError(
      `Expected token_ids and padding_mask of one shape (B, T) or (T). Received: [${ids.shape}], [${mask.shape}].`,
    );
  }
  const length = ids.shape.at(-1)!;
  const [idValues, maskValues] = await Promise.all([ids.data(), mask.data()]);
  const rows = Array.from({length: ids.size / length}, (_, row) => {
    const kept = Array.from(maskValues.subarray(row * length, (row + 1) * length));
    const count = kept.lastIndexOf(1) + 1;
    if (kept.slice(0, count).some(value => !value)) {
      throw new ValueError(`Expected padding only after each prompt. Received: a gap in padding_mask of row ${row}.`);
    }
    return Array.from(idValues.subarray(row * length, row * length + count));
  });
  const vision = await visionOfRows(inputs, rows, length);
  return {prompts: rows.map((tokens, i) => ({tokens, ...vision?.[i]})), shape: ids.shape};
}

/** Creates tensors like those of a preprocessor from rows of token ids. Rows are padded to the last size of `shape`. */
export function paddedTokens(
  rows: readonly number[][],
  shape: number[],
): Pick<TokenInputs, 'token_ids' | 'padding_mask'> {
  const length = shape.at(-1)!;
  const filled = (map: (row: number[], t: number) => number) =>
    rows.flatMap(row => Array.from({length}, (_, t) => (t < row.length ? map(row, t) : 0)));
  const ids = filled((row, t) => row[t]!);
  const kept = filled(() => 1);
  return {token_ids: tf.tensor(ids, shape, 'int32'), padding_mask: tf.tensor(kept, shape, 'bool')};
}
