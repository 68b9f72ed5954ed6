/** `Gemma3DecoderBlock`: one token per row through a whole decoder block in one command. See `src/ops/fused_block.ts`. */
import {type DenseForm, type DenseName, type FusedBlockAttrs} from '../../../ops/fused_block';
import {type KernelMap} from '../../kernel_map';
import {DECODER_BLOCK} from '../assembly/numbers';
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
  /** As x; may be x. */
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
  /** int32 (batch): position of the new token; negative for a row without one, whose cache and attention are skipped. */
  positions: number;
  /** (tableRows, headDim / 2), both: angles at these positions; tableRows is 1 or batch. */
  cos: number;
  sin: number;
  tableRows: number;
  /** Scales of norms; 0 or omitted: no such norm. */
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
 * One token per row through `Gemma3DecoderBlock`, which is causal here; its keys and values are added to the cache. Builds
 * one array and nothing else, because it runs for every block of every token.
 */
export function fusedBlock(a: FusedBlockArgs): Command {
  const {norms, query, key, value, output, gate, up, down} = a;
  // prettier-ignore
  const args = [
    a.x, a.y, a.batch, a.hiddenDim, a.gateDim, a.numQueryHeads, a.numKeyValueHeads, a.headDim,
    floatBits(a.epsilon), floatBits(a.scale), floatBits(a.logitSoftCap ?? 0), a.window ?? FAR,
    a.cachedKeys, a.cachedValues, a.capacity, a.positions, a.cos, a.sin, a.tableRows,
    norms.postAttention ?? 0, norms.preFfw, norms.postFfw ?? 0, norms.query ?? 0, norms.key ?? 0,
    query.type, query.w, query.inner ?? 1,
    key.type, key.w, key.inner ?? 1,
    value.type, value.w, value.inner ?? 1,
    output.type, output.w, output.inner ?? 1,
    gate.type, gate.w, gate.inner ?? 1,
    up.type, up.w, up.inner ?? 1,
    down.type, down.w, down.inner ?? 1,
    a.workspace, norms.preAttention,
  ];
  return [DECODER_BLOCK, args];
}

export function fusedBlockWorkspaceBytes(a: FusedBlockSizes, threads: number): number {
  const queries = a.batch * a.numQueryHeads * a.headDim;
  const keys = a.batch * a.numKeyValueHeads * a.headDim;
  const hidden = a.batch * a.hiddenDim;
  const partials = attentionPartialBytes({batch: a.batch, heads: a.numQueryHeads, width: a.headDim}, threads);
  const shared = 4 * (queries + 2 * keys + hidden + 2 * a.batch * a.gateDim) + partials + 7 * 64;
  return shared + threads * (4 * (2 * hidden + queries + keys) + 256);
}

// === Kernel ===

type Required = 'x' | 'keys' | 'values' | 'preAttention' | 'preFfw' | DenseName;
type Norms = 'postAttention' | 'postFfw' | 'queryNorm' | 'keyNorm';

const dense = (call: Call<Required | Norms>, name: DenseName, {packing, inner}: DenseForm): DenseArgs => ({
  type: packing ? TYPES[packing.format] : FLOAT32,
  w: call.at(name),
  inner,
});

/** Runs for every block of every token: plain objects, no spreads, which take V8 tens of microseconds. */
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
    // x and the cache move to the weights; later calls find the cache there.
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
