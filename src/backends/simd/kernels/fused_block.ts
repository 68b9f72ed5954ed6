/**
 * `Gemma3DecoderBlock` and `Gemma3DecoderBlocks`: one token per row through a whole decoder block, or through all of
 * them, in one command. See `src/ops/fused_block.ts`.
 */
import type * as tf from '@tensorflow/tfjs';
import {OutOfMemoryError} from '../../../base/errors';
import {type DenseForm} from '../../../ops/dense_form';
import {
  type BlockInput,
  type DenseName,
  type FusedBlockAttrs,
  type FusedBlocksAttrs,
  inputNames,
} from '../../../ops/fused_block';
import {type KernelMap} from '../../kernel_map';
import {
  DenseWord,
  FusedBlocksWord,
  FusedBlockWord,
  OWN_PARTS,
  PART_ALIGNMENT,
  SHARED_PARTS,
} from '../assembly/layouts/fused_block';
import {FUSED_BLOCK, FUSED_BLOCKS} from '../assembly/numbers';
import {type Command, FLOAT32, floatBits, type NumberType} from '../engine/command';
import {type SimdBackend} from '../memory/simd_backend';
import {TYPES} from '../packing/packing';
import {attentionPartialBytes, FAR, keyTypeOf} from './attention';
import {kernel} from './kernel';

// === Command ===

/** A dense kernel of a block: see `MatMulArgs`. */
export interface DenseArgs {
  type: NumberType;
  w: number;
  inner?: number;
}

export interface FusedBlockSizes {
  batch: number;
  hiddenDim: number;
  /** Width of the gates: intermediateDim / gateDimReduction. */
  gateDim: number;
  numQueryHeads: number;
  numKeyValueHeads: number;
  headDim: number;
}

export interface FusedBlockArgs extends FusedBlockSizes {
  /** (batch, hiddenDim); 0 for the result of the previous block. */
  x: number;
  /** Same shape as x; may be x itself. 0 if only the next block takes it. */
  y: number;
  epsilon: number;
  /** Queries are multiplied by this. */
  scale: number;
  logitSoftCap?: number | null;
  window?: number | null;
  /** (batch, capacity, numKeyValueHeads, headDim), both: the token at position p is stored at index p mod capacity. */
  cachedKeys: number;
  cachedValues: number;
  /** Their type. Defaults to FLOAT32. */
  cacheType?: NumberType;
  capacity: number;
  /**
   * int32 (batch): position of the new token; negative for a row without one, whose cache and attention are skipped.
   */
  positions: number;
  /** Cosines and sines of the angles at these positions, (tableRows, headDim / 2) each; tableRows is 1 or batch. */
  cos: number;
  sin: number;
  tableRows: number;
  /** Scales of the norms; 0 or omitted if the block has no such norm. */
  norms: {
    preAttention: number;
    postAttention?: number;
    preFfw: number;
    postFfw?: number;
    query?: number;
    key?: number;
  };
  query: DenseArgs;
  key: DenseArgs;
  value: DenseArgs;
  output: DenseArgs;
  gate: DenseArgs;
  up: DenseArgs;
  down: DenseArgs;
  /** `fusedBlockWorkspaceBytes` of memory, with any content. */
  workspace: number;
}

/** Runs one token per row through `Gemma3DecoderBlock`, which is causal here, and adds its keys and values to the cache. */
export function fusedBlock(a: FusedBlockArgs): Command {
  const words = new Array<number>(FusedBlockWord.end);
  setBlockWords(words, 0, a);
  return [FUSED_BLOCK, words];
}

/**
 * The same for several blocks, one after another. The first has x and the last has y; all others have 0 for both. They
 * have the same sizes and the same workspace.
 *
 * @param args.table the words of each block, as {@link setBlockWords} writes them: `FusedBlockWord.end` a block.
 */
export function fusedBlocks({table, count}: {table: number; count: number}): Command {
  const words = new Array<number>(FusedBlocksWord.end);
  words[FusedBlocksWord.table] = table;
  words[FusedBlocksWord.count] = count;
  return [FUSED_BLOCKS, words];
}

/** Writes the words of a block, from index `at` on. It creates nothing, because it runs for every block of every token. */
export function setBlockWords(words: number[] | Int32Array, at: number, a: FusedBlockArgs): void {
  const {norms} = a;
  words[at + FusedBlockWord.x] = a.x;
  words[at + FusedBlockWord.y] = a.y;
  words[at + FusedBlockWord.batch] = a.batch;
  words[at + FusedBlockWord.hiddenDim] = a.hiddenDim;
  words[at + FusedBlockWord.gateDim] = a.gateDim;
  words[at + FusedBlockWord.numQueryHeads] = a.numQueryHeads;
  words[at + FusedBlockWord.numKeyValueHeads] = a.numKeyValueHeads;
  words[at + FusedBlockWord.headDim] = a.headDim;
  words[at + FusedBlockWord.epsilon] = floatBits(a.epsilon);
  words[at + FusedBlockWord.scale] = floatBits(a.scale);
  words[at + FusedBlockWord.logitSoftCap] = floatBits(a.logitSoftCap ?? 0);
  words[at + FusedBlockWord.window] = a.window ?? FAR;
  words[at + FusedBlockWord.cachedKeys] = a.cachedKeys;
  words[at + FusedBlockWord.cachedValues] = a.cachedValues;
  words[at + FusedBlockWord.capacity] = a.capacity;
  words[at + FusedBlockWord.cacheType] = a.cacheType ?? FLOAT32;
  words[at + FusedBlockWord.positions] = a.positions;
  words[at + FusedBlockWord.cos] = a.cos;
  words[at + FusedBlockWord.sin] = a.sin;
  words[at + FusedBlockWord.tableRows] = a.tableRows;
  words[at + FusedBlockWord.postAttentionNorm] = norms.postAttention ?? 0;
  words[at + FusedBlockWord.preFfwNorm] = norms.preFfw;
  words[at + FusedBlockWord.postFfwNorm] = norms.postFfw ?? 0;
  words[at + FusedBlockWord.queryNorm] = norms.query ?? 0;
  words[at + FusedBlockWord.keyNorm] = norms.key ?? 0;
  setDenseWords(words, at + FusedBlockWord.query, a.query);
  setDenseWords(words, at + FusedBlockWord.key, a.key);
  setDenseWords(words, at + FusedBlockWord.value, a.value);
  setDenseWords(words, at + FusedBlockWord.output, a.output);
  setDenseWords(words, at + FusedBlockWord.gate, a.gate);
  setDenseWords(words, at + FusedBlockWord.up, a.up);
  setDenseWords(words, at + FusedBlockWord.down, a.down);
  words[at + FusedBlockWord.workspace] = a.workspace;
  words[at + FusedBlockWord.preAttentionNorm] = norms.preAttention;
}

function setDenseWords(words: number[] | Int32Array, at: number, {type, w, inner = 1}: DenseArgs): void {
  words[at + DenseWord.type] = type;
  words[at + DenseWord.w] = w;
  words[at + DenseWord.inner] = inner;
}

export function fusedBlockWorkspaceBytes(a: FusedBlockSizes, threads: number): number {
  const queries = a.batch * a.numQueryHeads * a.headDim;
  const keys = a.batch * a.numKeyValueHeads * a.headDim;
  const hidden = a.batch * a.hiddenDim;
  const partials = attentionPartialBytes({batch: a.batch, heads: a.numQueryHeads, width: a.headDim});
  const shared = 4 * (queries + 2 * keys + hidden + 2 * a.batch * a.gateDim) + partials + SHARED_PARTS * PART_ALIGNMENT;
  return shared + threads * (4 * (2 * hidden + queries + keys) + OWN_PARTS * PART_ALIGNMENT);
}

// === Kernels ===

/** The addresses of a block's inputs. */
type Address = (name: BlockInput) => number;

const dense = (at: Address, name: DenseName, {packing, inner}: DenseForm): DenseArgs => ({
  type: packing ? TYPES[packing.format] : FLOAT32,
  w: at(name),
  inner,
});

/** The blocks that a kernel runs one after another, the first with `x`. */
interface Blocks extends FusedBlocksAttrs {
  /** The names of each block's inputs. */
  names: readonly Readonly<Record<BlockInput, string>>[];
}

/**
 * Runs for every token. So it uses plain objects and no spreads, which take V8 tens of microseconds.
 *
 * @param inputs of these blocks, and no others.
 * @param bank where it must run. If left out, it may move to any bank.
 * @throws OutOfMemoryError before anything has run.
 */
function runBlocks(
  backend: SimdBackend,
  inputs: Tensors,
  {blocks, positions, angles, names}: Blocks,
  bank?: number,
): tf.TensorInfo {
  const [batch, , hiddenDim] = inputs.x!.shape as [number, number, number];
  const keys = inputs[names[0]!.keys]!;
  const cacheType = keyTypeOf(keys);
  const numKeyValueHeads = keys.shape[2]!;
  const headDim = keys.shape[3]! * (cacheType === FLOAT32 ? 1 : 2);
  const {gateDim, numQueryHeads} = blocks[0]!;
  const sizes = {batch, hiddenDim, gateDim, numQueryHeads, numKeyValueHeads, headDim};
  const commandBytes = wholeWords(fusedBlockWorkspaceBytes(sizes, backend.engine.threads));
  const kinds = [...new Set(angles)];
  const angleBytes = kinds[0]!.cos.byteLength;
  const tableBytes = blocks.length > 1 ? 4 * FusedBlockWord.end * blocks.length : 0;

  const call = backend.call<string>(inputs, {
    shape: [batch, 1, hiddenDim],
    workspaceBytes: commandBytes + tableBytes + 2 * kinds.length * angleBytes + 4 * batch,
    // x and the cache move to the bank of the weights; later calls find the cache there.
    preferredBank: backend.banks > 1 ? weightNames(names) : [],
    onlyBank: bank,
  });
  const {floats, ints} = call.words;
  const table = call.workspace + commandBytes;
  const positionsAt = table + tableBytes;
  ints.set(positions, positionsAt / 4);
  const anglesAt = kinds.map((_, i) => positionsAt + 4 * batch + 2 * i * angleBytes);
  for (const [i, {cos, sin}] of kinds.entries()) {
    floats.set(cos, anglesAt[i]! / 4);
    floats.set(sin, (anglesAt[i]! + angleBytes) / 4);
  }

  const blockArgs = (i: number): FusedBlockArgs => {
    const {forms, epsilon, scale, logitSoftCap, window} = blocks[i]!;
    const own = names[i]!;
    const at: Address = name => call.at(own[name]);
    const maybeAt: Address = name => call.maybeAt(own[name]);
    const cos = anglesAt[kinds.indexOf(angles[i]!)]!;
    return {
      batch,
      hiddenDim,
      gateDim,
      numQueryHeads,
      numKeyValueHeads,
      headDim,
      x: i === 0 ? call.at('x') : 0,
      y: i === blocks.length - 1 ? call.y : 0,
      epsilon,
      scale,
      logitSoftCap,
      window,
      cachedKeys: at('keys'),
      cachedValues: at('values'),
      cacheType,
      capacity: inputs[own.keys]!.shape[1]!,
      positions: positionsAt,
      cos,
      sin: cos + angleBytes,
      tableRows: angleBytes / (2 * headDim),
      norms: {
        preAttention: at('preAttention'),
        postAttention: maybeAt('postAttention'),
        preFfw: at('preFfw'),
        postFfw: maybeAt('postFfw'),
        query: maybeAt('queryNorm'),
        key: maybeAt('keyNorm'),
      },
      query: dense(at, 'query', forms.query),
      key: dense(at, 'key', forms.key),
      value: dense(at, 'value', forms.value),
      output: dense(at, 'output', forms.output),
      gate: dense(at, 'gate', forms.gate),
      up: dense(at, 'up', forms.up),
      down: dense(at, 'down', forms.down),
      workspace: call.workspace,
    };
  };
  if (blocks.length === 1) return call.run(fusedBlock(blockArgs(0)));
  for (let i = 0; i < blocks.length; i++) setBlockWords(ints, table / 4 + i * FusedBlockWord.end, blockArgs(i));
  return call.run(fusedBlocks({table, count: blocks.length}));
}

type Tensors = Record<string, tf.TensorInfo>;

const wholeWords = (bytes: number) => Math.ceil(bytes / 4) * 4;

const WEIGHTS: readonly DenseName[] = ['query', 'key', 'value', 'output', 'gate', 'up', 'down'];
const weightNames = (names: Blocks['names']) => names.flatMap(own => WEIGHTS.map(name => own[name]));

/** The inputs of a kernel for a single block have no prefix. */
const SINGLE = Object.fromEntries(Object.keys(inputNames(0)).map(name => [name, name])) as Record<BlockInput, string>;

const fusedBlockKernel = kernel<string, FusedBlockAttrs>((backend, inputs, attrs) =>
  runBlocks(backend, inputs, {blocks: [attrs], positions: attrs.positions, angles: [attrs], names: [SINGLE]}),
);

/** One command for all blocks, or for those whose weights are in the same bank. */
const fusedBlocksKernel = kernel<string, FusedBlocksAttrs>((backend, inputs, {blocks, positions, angles}) => {
  const names = blocks.map((_, i) => inputNames(i));
  const bankOf = (i: number) => backend.placeOf(inputs[names[i]!.gate]!)?.bank;
  let x = inputs.x!;
  const run = (first: number, end: number, bank?: number) => {
    const part = {
      blocks: blocks.slice(first, end),
      positions,
      angles: angles.slice(first, end),
      names: names.slice(first, end),
    };
    const tensors = end - first === blocks.length ? inputs : tensorsOf(inputs, x, part.names);
    const y = runBlocks(backend, tensors, part, bank);
    if (x !== inputs.x) backend.disposeData(x.dataId);
    x = y;
  };
  try {
    for (let first = 0, end: number; first < blocks.length; first = end) {
      const bank = bankOf(first);
      for (end = first + 1; bank !== undefined && end < blocks.length && bankOf(end) === bank;) end++;
      try {
        run(first, end, end - first > 1 ? bank : undefined);
      } catch (error) {
        if (end - first === 1 || !(error instanceof OutOfMemoryError)) throw error;
        // Their bank has no room for the caches of all of them. Each block alone can move to another one.
        for (let i = first; i < end; i++) run(i, i + 1);
      }
    }
    return x;
  } catch (error) {
    if (x !== inputs.x) backend.disposeData(x.dataId);
    throw error;
  }
});

/** x and the inputs of some blocks. */
function tensorsOf(inputs: Tensors, x: tf.TensorInfo, names: Blocks['names']): Tensors {
  const tensors: Tensors = {x};
  for (const own of names) {
    for (const name of Object.values(own)) if (inputs[name]) tensors[name] = inputs[name];
  }
  return tensors;
}

export const fusedBlockKernels: KernelMap = {
  Gemma3DecoderBlock: fusedBlockKernel,
  Gemma3DecoderBlocks: fusedBlocksKernel,
};
