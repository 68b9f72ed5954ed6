/** Training on the backend `webgpu`, step by step, against Python KerasHub: LoRA over frozen weights, and all weights. */
import * as tf from '@tensorflow/tfjs';
import {optimizers} from '../../src';
import {fixtureJson} from '../support/fixtures';
import {describeWebGpu, throwGpuErrors, useWebGpu} from '../support/webgpu';
import {CASES, fixtureModel, rowsOf, setWeights, stored} from './fixtures';

interface TargetRun {
  vision: boolean;
  targets: string[];
  learningRate: number;
  dtype: 'float32' | 'bfloat16';
  losses: number[];
  final: number[];
}

/** Written by make_lora_training_fixtures.py: all layers with LoRA at once. */
const {rank, runs} = fixtureJson<{rank: number; runs: TargetRun[]}>('training/lora_targets.json');
const LORA = runs.filter(({targets}) => targets.length > 1);

async function valuesOf(weights: readonly tf.LayerVariable[]): Promise<number[]> {
  const all: number[] = [];
  for (const weight of weights) {
    const value = weight.read();
    all.push(...(await value.data()));
  }
  return all;
}

/** The initial values that the script uses as well. */
function setStart(weights: readonly tf.LayerVariable[]): void {
  let k = 0;
  for (const weight of weights) {
    const values = Array.from({length: tf.util.sizeFromShape(weight.shape as number[])}, () => 0.3 * Math.sin(++k));
    tf.tidy(() => void weight.write(tf.tensor(values, weight.shape as number[])));
  }
}

/** Trains LoRA on all layers. → losses and matrices */
async function trainLora(run: TargetRun, dtype: string) {
  const {vision, targets, learningRate} = run;
  const lm = fixtureModel(vision, {dtype});
  const optimizer = new optimizers.SGD({learningRate});
  lm.backbone.enableLora(rank, {targetLayerNames: targets});
  setStart(lm.trainableWeights);
  lm.compile({optimizer});
  const losses: number[] = [];
  const onBatchEnd = (_: number, logs?: tf.Logs) => void losses.push(logs!.loss!);
  const {x, y, sampleWeight} = rowsOf(vision, [0, 1, 2, 3, 4, 5]);
  await lm.fit(x, y, {sampleWeight, batchSize: 2, epochs: 1, shuffle: false, callbacks: {onBatchEnd}});
  const final = await valuesOf(lm.trainableWeights);
  lm.dispose();
  optimizer.dispose();
  return {losses, final};
}

describeWebGpu('training on webgpu', () => {
  beforeAll(useWebGpu);
  afterEach(throwGpuErrors);

  test.each(LORA)('LoRA, $dtype, vision: $vision', async run => {
    const before = tf.memory().numTensors;
    const {losses, final} = await trainLora(run, run.dtype);
    expect(losses).toBeAllClose(run.losses, 1e-4);
    expect(final).toBeAllClose(run.final, 1e-4);
    expect(tf.memory().numTensors).toBe(before);
  });

  // The forward pass rounds kernels, so that losses are only near those of float32.
  test.each([
    ['int8', 0.02],
    ['int4', 0.06],
  ] as const)('LoRA over %s', async (dtype, most) => {
    const run = LORA.find(one => one.dtype === 'float32' && !one.vision)!;
    const {losses} = await trainLora(run, dtype);
    expect(losses.map((loss, i) => loss / run.losses[i]!)).toBeAllClose([1, 1, 1], {atol: most});
  });

  // Six steps each: all weights in float32, and LoRA, of text and with images.
  test.each([
    ['sgd', () => new optimizers.SGD({learningRate: 0.5})],
    ['adam', () => new optimizers.Adam({learningRate: 1e-2})],
    ['lora', () => new optimizers.Adam({learningRate: 1e-2})],
    ['vision', () => new optimizers.SGD({learningRate: 0.2})],
    ['vision_lora', () => new optimizers.Adam({learningRate: 1e-2})],
  ] as const)('%s: losses and weights of KerasHub over six steps', async (name, create) => {
    const before = tf.memory().numTensors;
    const run = CASES.runs.find(one => one.name === name)!;
    const lm = fixtureModel(run.vision);
    if (run.lora) {
      lm.backbone.enableLora(run.lora);
      setWeights(lm.trainableWeights, run.start!);
    }
    const optimizer = create();
    lm.compile({optimizer});
    const steps: number[] = [];
    const {x, y, sampleWeight} = rowsOf(run.vision, [0, 1, 2, 3, 4, 5]);
    const onBatchEnd = (_: number, logs?: tf.Logs) => void steps.push(logs!.loss!);
    await lm.fit(x, y, {sampleWeight, batchSize: 2, epochs: 2, shuffle: false, callbacks: {onBatchEnd}});
    expect(steps).toHaveLength(6);
    expect(steps).toBeAllClose(
      run.steps.map(([loss]) => loss),
      1e-4,
    );
    expect(await valuesOf(lm.trainableWeights)).toBeAllClose(stored(run.final), {atol: 1e-4});
    lm.dispose();
    optimizer.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });
});
