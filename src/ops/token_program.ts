/**
 * Whole decoding steps as one program of a backend: the token, its hidden states, the choice of the next token and its
 * embedding stay on the device, so that several tokens can be computed before the host reads the first of them.
 *
 * There is no reference: where a backend has no programs, a token is computed block by block.
 */
import * as tf from '@tensorflow/tfjs';
import {type DenseForm} from './dense_form';
import {type BlockAttrs, type FusedBlockTensors} from './fused_block';

/** How each token is chosen from the logits. */
export interface TokenChoice {
  /** How it is drawn at random. Null: the most probable token. */
  draw: null | {
    temperature: number;
    /** Number of most probable tokens to draw from; null for no limit. */
    topK: number | null;
    /** Draw from the most probable tokens until their total probability exceeds this; null for no limit. */
    topP: number | null;
    /** Smallest weight, as a fraction of the largest one. */
    minP: number;
  };
  /** Penalties on tokens that the row already has; null for none. */
  penalties: null | {
    /** Positive logits are divided by this, and negative ones multiplied. */
    factor: number;
    /** Subtracted from logits of tokens in the new text: once, and once per occurrence. */
    presence: number;
    frequency: number;
  };
}

/** A matrix as it is stored. */
export interface StoredMatrix {
  tensor: tf.Tensor;
  form: DenseForm;
}

/** The tensors of a model, and where its keys and values are stored. */
export interface ProgramModel {
  /** Number of tokens in the vocabulary, and width of the hidden states. */
  vocabulary: number;
  width: number;
  /** Embeddings are multiplied by `factor`. */
  embedding: StoredMatrix & {factor: number};
  blocks: readonly {
    /** As of a fused block, without x. */
    tensors: FusedBlockTensors;
    attrs: BlockAttrs;
    /** Index of the angles of a step that it uses. */
    angles: number;
  }[];
  finalNorm: {scale: tf.Tensor; epsilon: number};
  head: StoredMatrix;
}

/** The inputs of a step from the host. */
export interface ProgramStep {
  /** Position of each row's token; −1 for a row that is skipped. */
  positions: readonly number[];
  /** For each kind of angles, cosines and sines at these positions, (rows, headDim / 2) each. */
  angles: readonly {cos: Float32Array; sin: Float32Array}[];
  /** A random number for each row. Unused unless tokens are drawn. */
  uniforms: readonly number[];
}

/** The tokens of a row, and how many of them are its prompt. */
interface Text {
  readonly tokens: readonly number[];
  readonly promptLength: number;
}

/** A program for a number of rows. It owns its memory on the device until it is disposed. */
export interface TokenProgram {
  /** Starts with the last token of each row, which the model has not read yet. */
  start(rows: readonly Text[]): void;
  /**
   * Runs steps: each reads the tokens that the previous step has chosen. Further steps may be started before the result
   * arrives.
   *
   * @returns the tokens, (steps, rows). Negative: the host has to choose.
   */
  run(model: ProgramModel, steps: readonly ProgramStep[]): Promise<Int32Array>;
  dispose(): void;
}

/** How a backend creates programs. */
export interface TokenPrograms {
  /** The most steps in one call of `run`. */
  readonly mostSteps: number;
  /** Undefined if it cannot choose tokens in this way, or for this many rows. */
  create(choice: TokenChoice, rows: number): TokenProgram | undefined;
}

const known = new Map<string, TokenPrograms>();

export function registerTokenPrograms(backendName: string, programs: TokenPrograms): void {
  known.set(backendName, programs);
}

/** The programs of the current backend. */
export const tokenPrograms = (): TokenPrograms | undefined => known.get(tf.getBackend());
