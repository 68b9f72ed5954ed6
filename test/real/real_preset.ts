/** The real preset, and results of Python KerasHub with it. */
import {existsSync, readFileSync} from 'node:fs';
import {join, resolve} from 'node:path';
import {type PoolingMode} from '../../src';
import {ROOT} from '../support/fixtures';

export const REAL_PRESET = resolve(process.env.GEMMA3_270M ?? join(ROOT, 'models/gemma3_270m'));

export interface OraclePrompt {
  prompt: string;
  tokenIds: number[];
  text: string;
  top: {ids: number[]; logits: number[]};
  /** First values of the hidden state at the last position. */
  hidden: number[];
}

export interface Oracle {
  maxLength: number;
  prompts: OraclePrompt[];
  batch: {prompts: string[]; texts: string[]};
  /** Embeddings of texts, by pooling mode. Missing in files from older versions. */
  embedder?: {
    texts: string[];
    tokenIds: number[][];
    pooling: Record<
      PoolingMode,
      {
        /** Lengths of vectors that are not normalized. */
        lengths: number[];
        /** First values of vectors of length 1. */
        vectors: number[][];
        similarity: number[][];
      }
    >;
  };
  /** A prompt three windows long. */
  long: {prompt: string; tokenIds: number[]; maxLength: number; text: string};
}

const path = `${REAL_PRESET}_oracle.json`;

/** @throws if the real preset does not exist yet. */
export function readOracle(): Oracle {
  if (!existsSync(path) || !existsSync(join(REAL_PRESET, 'config.json'))) {
    throw new Error(`These tests need the real preset at ${REAL_PRESET} and ${path}: run "npm run fetch:270m" first.`);
  }
  return JSON.parse(readFileSync(path, 'utf8')) as Oracle;
}

/** @throws if the real preset does not exist yet, or its results of KerasHub have no embeddings. */
export function readEmbedderOracle(): Required<Oracle>['embedder'] {
  const {embedder} = readOracle();
  if (!embedder) throw new Error(`Expected embeddings in ${path}, which is older: run "npm run fetch:270m" again.`);
  return embedder;
}
