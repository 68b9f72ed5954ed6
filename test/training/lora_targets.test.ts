/**
 * LoRA on each kind of layer that `enableLora` takes, alone and together: losses and matrices, step by step, against
 * Python KerasHub.
 */
import * as tf from '@tensorflow/tfjs';
import {type Gemma3CausalLM, optimizers} from '../../src';
import {adaptableLayers} from '../../src/adapters/model_lora';
import {onEachBackend} from '../support/backends';
import {fixtureJson} from '../support/fixtures';
import {fixtureModel, numbersOf, rowsOf} from './fixtures';

interface TargetRun {
  vision: boolean;
  targets: string[];
  learningRate: number;
  dtype: 'float32' | 'bfloat16';
  trainable: number[][];
  losses: number[];
  final: number[];
}

/** Written by make_lora_training_fixtures.py. */
const {rank, runs} = fixtureJson<{rank: number; runs: TargetRun[]}>('training/lora_targets.json');

/** The initial values that the script uses as well. */
function setStart(weights: readonly tf.LayerVariable[]): void {
  let k = 0;
  for (const weight of weights) {
    const values = Array.from({length: tf.util.sizeFromShape(weight.shape as number[])}, () => 0.3 * Math.sin(++k));
    tf.tidy(() => void weight.write(tf.tensor(values, weight.shape as number[])));
  }
}

/** Trains a model of the fixtures, with float32 weights equal to those of `like` if given. */
async function train(run: TargetRun, dtype: string, recompute: boolean, like?: Gemma3CausalLM) {
  const {vision, targets, learningRate, trainable} = run;
  const lm = fixtureModel(vision, {dtype});
  const optimizer = new optimizers.SGD({learningRate});
  try {
    like?.backbone.weights.forEach((weight, i) => tf.tidy(() => void lm.backbone.weights[i]!.write(weight.read())));
    lm.backbone.enableLora(rank, {targetLayerNames: targets});
    expect(lm.trainableWeights.map(({shape}) => shape)).toEqual(trainable);
    setStart(lm.trainableWeights);
    const start = numbersOf(lm.trainableWeights);
    lm.compile({optimizer, recompute});
    const losses: number[] = [];
    const onBatchEnd = (_: number, logs?: tf.Logs) => void losses.push(logs!.loss!);
    const {x, y, sampleWeight} = rowsOf(vision, [0, 1, 2, 3, 4, 5]);
    await lm.fit(x, y, {sampleWeight, batchSize: 2, epochs: 1, shuffle: false, callbacks: {onBatchEnd}});
    return {losses, start, final: numbersOf(lm.trainableWeights)};
  } finally {
    lm.dispose();
    optimizer.dispose();
  }
}

test.each([false, true])('every layer that can have LoRA is a case, with vision: %s', vision => {
  const lm = fixtureModel(vision);
  const names = new Set([...adaptableLayers(lm.backbone).values()].map(({name}) => name));
  const alone = runs.filter(run => run.vision === vision && run.targets.length === 1 && run.dtype === 'float32');
  expect(new Set(alone.flatMap(({targets}) => targets))).toEqual(names);
  lm.dispose();
});

/** Formats, the largest relative error of a loss, and the smallest cosine between the changes of the weights. */
const INTEGERS = [
  ['int8', 0.02, 0.999],
  ['int4', 0.06, 0.999],
] as const;

const CASES = runs.map(run => ({
  ...run,
  what: `${run.targets.length > 1 ? 'all layers' : run.targets[0]}, ${run.vision ? 'vision' : 'text'}`,
}));

/** Cosine of the angle between the ways from `start` to two ends. */
function cosine(start: readonly number[], one: readonly number[], other: readonly number[]): number {
  const [a, b] = [one, other].map(end => end.map((x, i) => x - start[i]!)) as [number[], number[]];
  const dot = (x: number[], y: number[]) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

onEachBackend(
  ({formats}) => {
    /** Runs in float32, from kernels that a format has rounded, by run and format: `recompute` changes none of them. */
    const exact = new Map<string, Promise<Awaited<ReturnType<typeof train>>>>();
    async function trainRounded(run: TargetRun, dtype: string) {
      const rounded = fixtureModel(run.vision, {dtype});
      const result = await train(run, 'float32', true, rounded);
      rounded.dispose();
      return result;
    }
    const exactRun = (run: TargetRun & {what: string}, dtype: string) => {
      const key = `${run.what} ${dtype}`;
      if (!exact.has(key)) exact.set(key, trainRounded(run, dtype));
      return exact.get(key)!;
    };

    describe.each([true, false])('recompute: %s', recompute => {
      test.each(CASES)('$what, $dtype: the losses and weights of KerasHub', async run => {
        const {losses, final} = await train(run, run.dtype, recompute);
        expect(losses).toBeAllClose(run.losses, 1e-5);
        expect(final).toBeAllClose(run.final, 1e-5);
      });

      // With integers the forward pass rounds kernels, so that losses are near KerasHub's for float32, and activations,
      // so that changes are near those of float32 with the same rounded kernels.
      for (const [dtype, most, least] of INTEGERS.filter(([dtype]) => formats.includes(dtype))) {
        test.each(CASES.filter(run => run.dtype === 'float32'))(`$what, ${dtype}`, async run => {
          const {losses, start, final} = await train(run, dtype, recompute);
          const ratios = losses.map((loss, i) => loss / run.losses[i]!);
          expect(ratios).toBeAllClose([1, 1, 1], {atol: most});
          expect(cosine(start, final, (await exactRun(run, dtype)).final)).toBeGreaterThan(least);
        });
      }
    });

    // The embedding is read in the first stage and in the last one, its table and its matrices alike.
    test.each([true, false])('an unfrozen embedding with LoRA, recompute: %s', async recompute => {
      const lm = fixtureModel();
      const {embeddings} = lm.backbone.tokenEmbedding;
      lm.backbone.enableLora(rank, {targetLayerNames: ['token_embedding']});
      embeddings.trainable = true;
      setStart(lm.trainableWeights.filter(weight => weight !== embeddings));
      const {x, y, sampleWeight} = rowsOf(false, [0, 1]);
      const values = () => numbersOf(lm.trainableWeights);
      const learningRate = 1e-3;
      const optimizer = new optimizers.SGD({learningRate});
      lm.compile({optimizer, recompute});
      const before = values();
      const loss = (await lm.trainOnBatch(x, y, sampleWeight)) as number;
      const squares = values().reduce((sum, value, i) => sum + ((value - before[i]!) / learningRate) ** 2, 0);
      const after = (await lm.trainOnBatch(x, y, sampleWeight)) as number;
      expect(lm.trainableWeights).toContain(embeddings);
      // A small step of SGD lowers the loss by the learning rate times the square of the gradient.
      expect((loss - after) / (learningRate * squares)).toBeCloseTo(1, 1);
      lm.dispose();
      optimizer.dispose();
    });
  },
  {small: true},
);
