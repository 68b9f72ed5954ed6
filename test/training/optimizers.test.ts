/** Arguments, learning rates and state of optimizers. parity.test.ts compares their results with Keras. */
import * as tf from '@tensorflow/tfjs';
import {optimizers, ValueError} from '../../src';
import {expectNoLeak} from '../support/numbers';

const {Adam, AdamW, CosineDecay, PolynomialDecay, SGD} = optimizers;

test('schedules give the rates of Keras', () => {
  const near = (schedule: optimizers.LearningRateSchedule, steps: number[], expected: number[]) =>
    expect(steps.map(step => schedule.call(step))).toBeAllClose(expected, {atol: 5e-10});
  const cosine = {initialLearningRate: 0.1, decaySteps: 4};
  near(new CosineDecay(cosine), [0, 1, 2, 4, 9], [0.1, 0.0853553391, 0.05, 0, 0]);
  near(new CosineDecay({...cosine, alpha: 0.5}), [2, 4], [0.075, 0.05]);
  const warm = new CosineDecay({...cosine, initialLearningRate: 0, warmupTarget: 0.2, warmupSteps: 2});
  near(warm, [0, 1, 2, 4, 6, 7], [0, 0.1, 0.2, 0.1, 0, 0]);
  const polynomial = {initialLearningRate: 1, endLearningRate: 0.5, decaySteps: 4};
  near(new PolynomialDecay(polynomial), [0, 1, 4, 8], [1, 0.875, 0.5, 0.5]);
  near(new PolynomialDecay({...polynomial, power: 2}), [2], [0.625]);
  near(new PolynomialDecay({...polynomial, cycle: true}), [0, 4, 6], [1, 0.5, 0.625]);
});

test.each<[string, () => unknown, string]>([
  ['unknown', () => new Adam({rate: 1} as never), 'Adam has no argument "rate". Expected: learningRate,'],
  [
    'rate',
    () => new Adam({learningRate: -1}),
    'as a number of at least 0 or as a LearningRateSchedule. Received: learni',
  ],
  ['rate', () => new SGD({learningRate: '1' as never}), 'Received: learningRate="1".'],
  ['beta', () => new AdamW({beta1: 1}), 'AdamW expected `beta1` in [0, 1). Received: beta1=1.'],
  [
    'decay',
    () => new AdamW({weightDecay: null}),
    'AdamW expected `weightDecay` as a number. Received: weightDecay=null.',
  ],
  [
    'clips',
    () => new SGD({clipNorm: 1, clipValue: 1}),
    'SGD expected at most one of `clipNorm`, `clipValue` and `globalClipNorm`',
  ],
  ['clip', () => new SGD({globalClipNorm: 0}), '`globalClipNorm` to be null or above 0'],
  [
    'steps',
    () => new SGD({gradientAccumulationSteps: 1}),
    'to be null or a whole number of at least 2. Received: gradien',
  ],
  ['momentum', () => new SGD({momentum: 2}), '`momentum` in [0, 1]'],
  ['nesterov', () => new SGD({nesterov: true}), '`momentum` above 0 with `nesterov`'],
  [
    'cosine',
    () => new CosineDecay({initialLearningRate: 1, decaySteps: 0}),
    'CosineDecay expected `decaySteps` to be a pos',
  ],
  [
    'warm-up',
    () => new CosineDecay({initialLearningRate: 1, decaySteps: 1, warmupSteps: 2}),
    '`warmupTarget` with `warmu',
  ],
  [
    'polynomial',
    () => new PolynomialDecay({initialLearningRate: NaN, decaySteps: 1}),
    'Received: initialLearningRate=NaN.',
  ],
])('refuses an unusable %s', (_, make, message) => {
  expect(make).toThrow(ValueError);
  expect(make).toThrow(message);
});

const variables = (...names: string[]) =>
  tf.tidy(() => names.map((name, i) => tf.variable(tf.tensor1d([1, 2, 3 + i]), true, name)));
const gradients = (all: tf.Variable[], value: number) =>
  Object.fromEntries(all.map(variable => [variable.name, tf.fill(variable.shape, value)]));
const apply = (optimizer: tf.Optimizer, all: tf.Variable[], value: number) =>
  tf.tidy(() => optimizer.applyGradients(gradients(all, value)));

test('state moves from one optimizer to another', async () => {
  await expectNoLeak(async () => {
    const created = [new Adam({gradientAccumulationSteps: 2}), new Adam({gradientAccumulationSteps: 2})];
    const [a, b] = [variables('first/w', 'first/v'), variables('second/w', 'second/v')];
    for (let i = 0; i < 5; i++) apply(created[0]!, a, i);
    a.forEach((variable, i) => b[i]!.assign(variable));
    const state = await created[0]!.getWeights();
    expect(state.map(({name}) => name).slice(0, 3)).toEqual(['iter', 'first/w/momentum', 'first/v/momentum']);
    await created[1]!.setWeights(state);
    tf.dispose(state.map(({tensor}) => tensor));
    for (const [i, all] of [a, b].entries()) apply(created[i]!, all, 7);
    expect(created[1]!.iterations).toBe(6);
    a.forEach((variable, i) => expect(b[i]!.dataSync()).toEqual(variable.dataSync()));
    expect(() => apply(created[1]!, a, 1)).toThrow('Create a new optimizer for other variables');
    const sgd = new SGD({momentum: 0.5});
    const other = await created[0]!.getWeights();
    await expect(sgd.setWeights(other)).rejects.toThrow(
      'that keeps momentum. Received one that keeps momentum, velocity',
    );
    tf.dispose(other.map(({tensor}) => tensor));
    for (const item of [...created, sgd, ...a, ...b]) item.dispose();
  });
});

test('rates can be set unless they follow a schedule; variables can be excluded from decay', () => {
  const all = variables('norm/scale', 'kernel');
  const sgd = new SGD({learningRate: 1, weightDecay: 0.5});
  sgd.excludeFromWeightDecay(['norm/']);
  apply(sgd, all, 0);
  expect(all.map(variable => [...variable.dataSync()])).toEqual([
    [1, 2, 3],
    [0.5, 1, 2],
  ]);
  expect(() => sgd.excludeFromWeightDecay([])).toThrow('can only be called before the optimizer is first used');
  sgd.learningRate = 0;
  apply(sgd, all, 100);
  expect(all[0]!.dataSync()[0]).toBe(1);
  const scheduled = new SGD({learningRate: new PolynomialDecay({initialLearningRate: 1, decaySteps: 2})});
  expect(() => (scheduled.learningRate = 1)).toThrow('follows a schedule');
  tf.dispose(all);
});
