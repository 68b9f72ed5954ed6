/** Decoding steps that run as a program of the backend. */
import {type AheadStep, type RowText, type StepsAhead} from '../../../generation/decoder';
import {formOf, hasFusedKernel, storedTensor} from '../../../ops/dense_form';
import {type ProgramModel, type TokenChoice, type TokenProgram, tokenPrograms} from '../../../ops/token_program';
import {type Gemma3Backbone} from '../gemma3_backbone';
import {type Gemma3DecoderBlock} from '../gemma3_decoder_block';
import {type Gemma3Cache} from './cache';
import {anglesAt, anglesOf, type FusableParts, fusableParts} from './fused_step';

/** The weights of a model for a program; undefined if no program can compute it in its current state. */
function programModel({transformerLayers, tokenEmbedding, layerNorm, config}: Gemma3Backbone) {
  if (tokenEmbedding.loraEnabled || tokenEmbedding.logitSoftCap !== null) return undefined;
  const {embeddings, reverseEmbeddings, inputDim, outputDim} = tokenEmbedding;
  const embedding = {tensor: storedTensor(embeddings), form: formOf(embeddings, 2)};
  const head = reverseEmbeddings
    ? {tensor: storedTensor(reverseEmbeddings), form: formOf(reverseEmbeddings, 1)}
    : embedding;
  if (!hasFusedKernel('Gemma3DecoderBlock', [embedding.form, head.form])) return undefined;
  const parts: FusableParts[] = [];
  for (const layer of transformerLayers) {
    const part = fusableParts(layer);
    if (!part) return undefined;
    parts.push(part);
  }
  return {
    ...{vocabulary: inputDim, width: outputDim, head, parts},
    embedding: {...embedding, factor: Math.fround(Math.sqrt(config.hiddenDim))},
    finalNorm: {scale: layerNorm.scale.read(), epsilon: config.layerNormEpsilon},
  };
}

/** {@link StepsAhead} for a backbone; undefined if the backend has no program for it. */
export function tokenSteps(
  backbone: Gemma3Backbone,
  choice: TokenChoice,
  rows: number,
): StepsAhead<Gemma3Cache> | undefined {
  const programs = tokenPrograms();
  if (!programs || !programModel(backbone)) return undefined;
  const program = programs.create(choice, rows);
  return program && new TokenSteps(backbone, program, programs.mostSteps);
}

class TokenSteps implements StepsAhead<Gemma3Cache> {
  private readonly kinds: Gemma3DecoderBlock[];
  private readonly kindOf: number[];
  private cache: Gemma3Cache | undefined;
  /** Blocks of the previous call, and what they were made from. */
  private parts: readonly FusableParts[] = [];
  private blocks: ProgramModel['blocks'] = [];

  constructor(
    private readonly backbone: Gemma3Backbone,
    private readonly program: TokenProgram,
    readonly mostSteps: number,
  ) {
    ({kinds: this.kinds, kindOf: this.kindOf} = anglesOf(backbone.transformerLayers));
  }

  start(rows: readonly RowText[], cache: Gemma3Cache): void {
    this.cache = cache;
    this.program.start(rows);
  }

  async run(steps: readonly AheadStep[]): Promise<Int32Array> {
    const {backbone, cache, kinds, program} = this;
    const model = programModel(backbone);
    if (!cache || !model) throw new Error('internal: a model was changed while it generated a text.');
    const positions = [...cache.lengths];
    const counts = positions.map((_, row) => steps.filter(({active}) => active[row]).length);
    const next = steps.map(({active, uniforms}) => {
      const own = active.map((takesPart, row) => (takesPart ? positions[row]!++ : -1));
      return {positions: own, uniforms, angles: kinds.map(kind => anglesAt(kind, own))};
    });
    const {parts, ...rest} = model;
    return program.run({...rest, blocks: this.blocksOver(parts, cache, counts)}, next);
  }

  /**
   * The blocks over the slots of a cache, to which tokens are added. Those of the previous call are reused as long as
   * weights and slots are the same: making them for every token would take longer than its commands.
   */
  private blocksOver(
    parts: readonly FusableParts[],
    cache: Gemma3Cache,
    counts: readonly number[],
  ): ProgramModel['blocks'] {
    const slots = cache.blocks.map(block => block.extendBy(counts));
    const {parts: oldParts, blocks: old} = this;
    const same = slots.every(({keys, values}, i) => {
      const tensors = old[i]?.tensors;
      return parts[i] === oldParts[i] && tensors?.keys === keys && tensors?.values === values;
    });
    if (same) return old;
    this.parts = parts;
    return (this.blocks = parts.map((part, i) => {
      const {keys, values} = slots[i]!;
      return {attrs: part.attrs, angles: this.kindOf[i]!, tensors: part.addTo({keys, values})};
    }));
  }

  dispose(): void {
    this.program.dispose();
  }
}
