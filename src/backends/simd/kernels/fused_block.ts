/**
 * `Gemma3DecoderBlock`: one token per row through a whole decoder block in one command. See `src/ops/fused_block.ts`.
 */
import {type DenseForm} from '../../../ops/dense_form';
import {type DenseName, type FusedBlockAttrs} from '../../../ops/fused_block';
import {type KernelMap} from '../../kernel_map';
import {DenseWord, FusedBlockWord, OWN_PARTS, PART_ALIGNMENT, SHARED_PARTS} from '../assembly/layouts/fused_block';
import {FUSED_BLOCK} from '../assembly/numbers';
import {type Command, FLOAT32, floatBits, type NumberType} from '../engine/command';
import {type Call} from '../memory/call';
import {TYPES} from '../packing/packing';
import {attentionPartialBytes, FAR} from './attention';
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
  /** (batch, hiddenDim) */
  x: number;
  /** Same shape as x; may be x itself. */
  y: number;
  epsilon: number;
  /** Queries are multiplied by this. */
  scale: number;
  logitSoftCap?: number | null;
  window?: number | null;
  /** (batch, capacity, numKeyValueHeads, headDim), both: the token at position p is stored at index p mod capacity. */
  cachedKeys: number;
  cachedValues: number;
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

/**
 * Runs one token per row through `Gemma3DecoderBlock`, which is causal here, and adds its keys and values to the cache.
 * Creates only one array, because it runs for every block of every token.
 */
export function fusedBlock(a: FusedBlockArgs): Command {
  const {norms} = a;
  const words = new Array<number>(FusedBlockWord.end);
  words[FusedBlockWord.x] = a.x;
  words[FusedBlockWord.y] = a.y;
  words[FusedBlockWord.batch] = a.batch;
  words[FusedBlockWord.hiddenDim] = a.hiddenDim;
  words[FusedBlockWord.gateDim] = a.gateDim;
  words[FusedBlockWord.numQueryHeads] = a.numQueryHeads;
  words[FusedBlockWord.numKeyValueHeads] = a.numKeyValueHeads;
  words[FusedBlockWord.headDim] = a.headDim;
  words[FusedBlockWord.epsilon] = floatBits(a.epsilon);
  words[FusedBlockWord.scale] = floatBits(a.scale);
  words[FusedBlockWord.logitSoftCap] = floatBits(a.logitSoftCap ?? 0);
  words[FusedBlockWord.window] = a.window ?? FAR;
  words[FusedBlockWord.cachedKeys] = a.cachedKeys;
  words[FusedBlockWord.cachedValues] = a.cachedValues;
  words[FusedBlockWord.capacity] = a.capacity;
  words[FusedBlockWord.positions] = a.positions;
  words[FusedBlockWord.cos] = a.cos;
  words[FusedBlockWord.sin] = a.sin;
  words[FusedBlockWord.tableRows] = a.tableRows;
  words[FusedBlockWord.postAttentionNorm] = norms.postAttention ?? 0;
  words[FusedBlockWord.preFfwNorm] = norms.preFfw;
  words[FusedBlockWord.postFfwNorm] = norms.postFfw ?? 0;
  words[FusedBlockWord.queryNorm] = norms.query ?? 0;
  words[FusedBlockWord.keyNorm] = norms.key ?? 0;
  setDenseWords(words, FusedBlockWord.query, a.query);
  setDenseWords(words, FusedBlockWord.key, a.key);
  setDenseWords(words, FusedBlockWord.value, a.value);
  setDenseWords(words, FusedBlockWord.output, a.output);
  setDenseWords(words, FusedBlockWord.gate, a.gate);
  setDenseWords(words, FusedBlockWord.up, a.up);
  setDenseWords(words, FusedBlockWord.down, a.down);
  words[FusedBlockWord.workspace] = a.workspace;
  words[FusedBlockWord.preAttentionNorm] = norms.preAttention;
  return [FUSED_BLOCK, words];
}

function setDenseWords(words: number[], at: number, {type, w, inner = 1}: DenseArgs): void {
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

// === Kernel ===

type Required = 'x' | 'keys' | 'values' | 'preAttention' | 'preFfw' | DenseName;
type Norms = 'postAttention' | 'postFfw' | 'queryNorm' | 'keyNorm';

const dense = (call: Call<Required | Norms>, name: DenseName, {packing, inner}: DenseForm): DenseArgs => ({
  type: packing ? TYPES[packing.format] : FLOAT32,
  w: call.at(name),
  inner,
});

/** Runs for every block of every token, so it uses plain objects and no spreads, which take V8 tens of microseconds. */
const fusedBlockKernel = kernel<Required, FusedBlockAttrs, Norms>((backend, inputs, attrs) => {
  const {forms, gateDim, numQueryHeads, cos: cosines, sin: sines} = attrs;
  const [batch, , hiddenDim] = inputs.x.shape as [number, number, number];
  const [, capacity, numKeyValueHeads, headDim] = inputs.keys.shape as [number, number, number, number];
  const sizes = {batch, hiddenDim, gateDim, numQueryHeads, numKeyValueHeads, headDim};

  const commandBytes = Math.ceil(fusedBlockWorkspaceBytes(sizes, backend.engine.threads) / 4) * 4;
  const angleBytes = cosines.byteLength;
  const call = backend.call<Required | Norms>(inputs, {
    shape: [batch, 1, hiddenDim],
    workspaceBytes: commandBytes + 2 * angleBytes + 4 * batch,
    // x and the cache move to the bank of the weights; later calls find the cache there.
    preferredBank: Object.keys(forms) as DenseName[],
  });
  const cos = call.workspace + commandBytes;
  const sin = cos + angleBytes;
  const positions = sin + angleBytes;
  const {floats, ints} = call.words;
  floats.set(cosines, cos / 4);
  floats.set(sines, sin / 4);
  ints.set(attrs.positions, positions / 4);
  return call.run(
    fusedBlock({
      batch,
      hiddenDim,
      gateDim,
      numQueryHeads,
      numKeyValueHeads,
      headDim,
      x: call.at('x'),
      y: call.y,
      epsilon: attrs.epsilon,
      scale: attrs.scale,
      logitSoftCap: attrs.logitSoftCap,
      window: attrs.window,
      cachedKeys: call.at('keys'),
      cachedValues: call.at('values'),
      capacity,
      positions,
      cos,
      sin,
      tableRows: cosines.length / (headDim / 2),
      norms: {
        preAttention: call.at('preAttention'),
        postAttention: call.maybeAt('postAttention'),
        preFfw: call.at('preFfw'),
        postFfw: call.maybeAt('postFfw'),
        query: call.maybeAt('queryNorm'),
        key: call.maybeAt('keyNorm'),
      },
      query: dense(call, 'query', forms.query),
      key: dense(call, 'key', forms.key),
      value: dense(call, 'value', forms.value),
      output: dense(call, 'output', forms.output),
      gate: dense(call, 'gate', forms.gate),
      up: dense(call, 'up', forms.up),
      down: dense(call, 'down', forms.down),
      workspace: call.workspace,
    }),
  );
});

export const fusedBlockKernels: KernelMap = {Gemma3DecoderBlock: fusedBlockKernel};
