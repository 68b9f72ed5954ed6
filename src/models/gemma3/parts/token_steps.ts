/** Decoding steps that run as a program of the backend, from token to token. */
import {type AheadStep, type RowText, type StepsAhead} from '../../../generation/decoder';
import {formOf, hasFusedKernel, storedTensor} from '../../../ops/dense_form';
import {type ProgramModel, type TokenChoice, type TokenProgram, tokenPrograms} from '../../../ops/token_program';
import {type Gemma3Backbone} from '../gemma3_backbone';
import {type Gemma3DecoderBlock} from '../gemma3_decoder_block';
import {type Gemma3Cache} from './cache';
import {anglesAt, anglesOf, fusableParts} from './fused_step';

/** The weights of a model for a program; undefined if no program can compute it as it is now. */
function programModel({transformerLayers, tokenEmbedding, layerNorm, config}: Gemma3Backbone) {
  if (tokenEmbedding.loraEnabled || tokenEmbedding.logitSoftCap !== null) return undefined;
  const {embeddings, reverseEmbeddings, inputDim, outputDim} = tokenEmbedding;
  const embedding = {tensor: storedTensor(embeddings), form: formOf(embeddings, 2)};
  const head = reverseEmbeddings
    ? {tensor: storedTensor(reverseEmbeddings), form: formOf(reverseEmbeddings, 1)}
    : embedding;
  if (!hasFusedKernel('Gemma3DecoderBlock', [embedding.form, head.form])) return undefined;
  const blocks = transformerLayers.map(fusableParts);
  if (blocks.includes(undefined)) return undefined;
  return {
    ...{vocabulary: inputDim, width: outputDim, head},
    embedding: {...embedding, factor: Math.fround(Math.sqrt(config.hiddenDim))},
    blocks: blocks.map(block => block!),
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
    const {backbone, cache, kinds, kindOf, program} = this;
    const model = programModel(backbone);
    if (!cache || !model) throw new Error('internal: a model was changed while it generated a text.');
    const positions = [...cache.lengths];
    const counts = positions.map((_, row) => steps.filter(({active}) => active[row]).length);
    const next = steps.map(({active, uniforms}) => {
      const own = active.map((takesPart, row) => (takesPart ? positions[row]!++ : -1));
      return {positions: own, uniforms, angles: kinds.map(kind => anglesAt(kind, own))};
    });
    const blocks: ProgramModel['blocks'] = model.blocks.map(({attrs, addTo}, i) => {
      const {keys, values} = cache.blocks[i]!.extendBy(counts);
      return {attrs, angles: kindOf[i]!, tensors: addTo({keys, values})};
    });
    return program.run({...model, blocks}, next);
  }

  dispose(): void {
    this.program.dispose();
  }
}
