/** Inputs and outputs of generation without a preprocessor: token ids as tensors. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {type Prompt} from '../generation/decoder';
import {type TokenLogprobs} from '../generation/logprobs';
import {type TensorOrArray, toTensor} from '../layers/tensor_like';
import {type GenerateOptions} from './generate_options';
import {VISION_TENSORS, visionOfRows, type VisionTensors} from './vision_tensors';

/**
 * Token ids, (B, T) or (T), padded at the end to the length of the result, and a mask of the same shape: 1 for the
 * prompt, 0 for padding; as tensors or arrays of numbers. A model with vision also takes images, as a preprocessor
 * prepares them: all three or none.
 */
export type TokenInputs = {token_ids: TensorOrArray; padding_mask: TensorOrArray} & {
  [name in keyof VisionTensors]?: TensorOrArray;
};

/** Token ids int32 and their padding mask bool, including the generated text, in the shape of the inputs. */
export type GeneratedTokens = {token_ids: tf.Tensor; padding_mask: tf.Tensor};

/** Generated token ids, with the log probabilities of the new tokens of each row. */
export type TokensWithLogprobs = GeneratedTokens & {logprobs: TokenLogprobs[][]};

/** The prompt of each row, and the shape of the tensor that they were read from: (B, T) or (T). */
export interface TokenRows {
  prompts: Prompt[];
  shape: number[];
}

/** @throws ValueError on options of `generate` that need a preprocessor. */
export function checkTokenOptions(options: GenerateOptions, details: boolean): void {
  if (details) {
    throw new ValueError(
      'A `preprocessor` must be attached to the model for `details`, which come with texts. Use `onFinish`, which is ' +
        'called for each row.',
    );
  }
  const {stopStrings, session, maxLength, maxNewTokens, stripPrompt} = options;
  if (stopStrings || session) {
    throw new ValueError(
      'A `preprocessor` must be attached to the model for `stopStrings` and `session`, which work on text.',
    );
  }
  if (maxLength !== undefined || maxNewTokens !== undefined || stripPrompt !== undefined) {
    throw new ValueError(
      'Without a preprocessor the result is as long as the inputs: pad them to the length you want, and leave out ' +
        '`maxLength`, `maxNewTokens` and `stripPrompt`.',
    );
  }
}

/**
 * Reads the prompts from tensors or arrays. The caller disposes their images.
 *
 * @throws ValueError unless the shapes match, on padding before the end of a prompt, and on fractions.
 */
export async function readTokenInputs(inputs: TokenInputs): Promise<TokenRows> {
  const given: Record<string, unknown> = inputs && typeof inputs === 'object' ? {...inputs} : {};
  const names = Object.keys(given).filter(name => given[name] !== undefined);
  const known = ['token_ids', 'padding_mask', ...VISION_TENSORS];
  if (!names.includes('token_ids') || !names.includes('padding_mask') || !names.every(name => known.includes(name))) {
    throw new ValueError(
      'Without a preprocessor, expected {token_ids, padding_mask} as tensors or nested arrays, with images also ' +
        `{${VISION_TENSORS.join(', ')}}. Received: ` +
        `${typeof inputs === 'string' ? show(inputs) : names.join(', ') || show(inputs)}.`,
    );
  }
  const created: tf.Tensor[] = [];
  try {
    const tensors = Object.fromEntries(
      names.map(name => [name, toTensor(name, given[name], name === 'images' ? 'float32' : 'int32', created)]),
    ) as GeneratedTokens & Partial<VisionTensors>;
    return await readTokenTensors(tensors);
  } finally {
    tf.dispose(created);
  }
}

async function readTokenTensors(inputs: GeneratedTokens & Partial<VisionTensors>): Promise<TokenRows> {
  const {token_ids: ids, padding_mask: mask} = inputs;
  if (ids.rank > 2 || ids.rank < 1 || ids.size === 0 || ids.shape.join() !== mask.shape.join()) {
    throw new ValueError(
      'Expected token_ids and padding_mask of the same shape, (B, T) or (T), with at least one token. ' +
        `Received: [${ids.shape}], [${mask.shape}].`,
    );
  }
  const length = ids.shape.at(-1)!;
  const [idValues, maskValues] = await Promise.all([ids.data(), mask.data()]);
  const fraction = (idValues as Float32Array).find(id => !Number.isInteger(id));
  if (fraction !== undefined) {
    throw new ValueError(`Expected token_ids to be integers. Received: ${fraction}.`);
  }
  const other = (maskValues as Float32Array).find(value => value !== 0 && value !== 1);
  if (other !== undefined) {
    throw new ValueError(`Expected padding_mask of 1 for tokens and 0 for padding. Received: ${other}.`);
  }
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
export function paddedTokens(rows: readonly number[][], shape: number[]): GeneratedTokens {
  const length = shape.at(-1)!;
  const filled = (map: (row: number[], t: number) => number) =>
    rows.flatMap(row => Array.from({length}, (_, t) => (t < row.length ? map(row, t) : 0)));
  const ids = filled((row, t) => row[t]!);
  const kept = filled(() => 1);
  return {token_ids: tf.tensor(ids, shape, 'int32'), padding_mask: tf.tensor(kept, shape, 'bool')};
}
