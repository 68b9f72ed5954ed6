/** Einsum products against their definition, and the planning of equations. */
import {readFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {denseEinsum, planEinsum} from '../../src/ops/einsum';
import {PackedWeight} from '../../src/weights/packed_weight';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {fixture} from '../support/fixtures';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

const EQUATIONS = (
  JSON.parse(readFileSync(fixture('einsum.json'), 'utf8')) as {
    equation: string;
    x: {shape: number[]};
    kernel: {shape: number[]};
  }[]
).map(c => [c.equation, c.x.shape, c.kernel.shape] as const);
const MORE = [
  // Contracted axes that are not adjacent, contracted axes in a different order than in x, and an axis that is summed.
  ['abcd,dbe->ae', [2, 3, 4, 5], [5, 3, 6]],
  ['abc,bdc->ad', [2, 3, 4], [3, 5, 4]],
  ['abc,cdb->ad', [2, 3, 4], [4, 5, 3]],
  ['ab,cd->ac', [2, 3], [4, 5]],
  ['...b,cb->...c', [3], [4, 3]],
  ['...b,cb->...c', [2, 1, 3], [4, 3]],
] as const;

type Values = {at: number[]; value: number}[];

/** All values of a tensor with their indices. */
function entries(tensor: tf.Tensor): Values {
  const strides = tensor.shape.map((_, axis) => tensor.shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  return Array.from(tensor.dataSync(), (value, i) => ({
    at: tensor.shape.map((size, axis) => Math.floor(i / strides[axis]!) % size),
    value,
  }));
}

/** The definition of einsum: the sum of products of all entries with equal labels. */
function byDefinition(x: tf.Tensor, kernel: tf.Tensor, plan: ReturnType<typeof planEinsum>): number[] {
  const sizes = new Map([
    ...plan.x.map((l, i) => [l, x.shape[i]!]),
    ...plan.kernel.map((l, i) => [l, kernel.shape[i]!]),
  ] as [string, number][]);
  const shape = plan.output.map(label => sizes.get(label)!);
  const sums = new Array<number>(shape.reduce((a, b) => a * b, 1)).fill(0);
  for (const a of entries(x)) {
    for (const b of entries(kernel)) {
      const at = new Map(plan.x.map((label, i) => [label, a.at[i]!]));
      if (plan.kernel.some((label, i) => at.has(label) && at.get(label) !== b.at[i])) continue;
      plan.kernel.forEach((label, i) => at.set(label, b.at[i]!));
      const index = plan.output.reduce((sum, label, axis) => sum * shape[axis]! + at.get(label)!, 0);
      sums[index]! += a.value * b.value;
    }
  }
  return sums;
}

onEachBackend(() => {
  disposeAfterEach();

  describe.each([...EQUATIONS, ...MORE])('%s of %j and %j', (equation, xShape, kernelShape) => {
    const plan = planEinsum(equation, xShape.length);
    const [x, kernel] = [normal([...xShape], 1), normal([...kernelShape], 2)];

    test('matches its definition, with gradients', () => {
      expect(denseEinsum(x, kernel, plan)).toBeAllClose(byDefinition(x, kernel, plan));
      const dy = normal(denseEinsum(x, kernel, plan).shape, 3);
      const before = tf.memory().numTensors;
      tf.tidy(() => {
        const [dx, dKernel] = tf.grads((a, b) => denseEinsum(a, b, plan))([x, kernel], dy) as [tf.Tensor, tf.Tensor];
        // Linear in each argument, so the gradient along a direction is the value there.
        const [toX, toKernel] = [normal(x.shape, 4), normal(kernel.shape, 5)];
        const dot = (a: tf.Tensor, b: ArrayLike<number>) =>
          Array.from(a.dataSync()).reduce((s, v, i) => s + v * b[i]!, 0);
        expect(dx.shape).toEqual(x.shape);
        expect(dKernel.shape).toEqual(kernel.shape);
        const alongX = dot(dy, byDefinition(toX, kernel, plan));
        const alongKernel = dot(dy, byDefinition(x, toKernel, plan));
        expect(Math.abs(dot(dx, toX.dataSync()) - alongX)).toBeLessThan(1e-4 * Math.max(1, Math.abs(alongX)));
        expect(Math.abs(dot(dKernel, toKernel.dataSync()) - alongKernel)).toBeLessThan(
          1e-4 * Math.max(1, Math.abs(alongKernel)),
        );
      });
      expect(tf.memory().numTensors).toBe(before);
    });

    test('gives the same result with a packed kernel', () => {
      const packed = new PackedWeight([...kernelShape], plan.layout, 'kernel', tf.initializers.zeros());
      packed.write(kernel);
      const rounded = packed.read();
      expect(rounded).toBeAllClose(kernel, 1 / 128);
      expectSameGradients(
        a => denseEinsum(a, packed, plan),
        a => denseEinsum(a, rounded, plan),
        [x],
      );
      packed.dispose();
    });
  });
});

describe('planEinsum', () => {
  test('classifies each label', () => {
    expect(planEinsum('...abc,cbd->...ad', 5)).toMatchObject({
      x: ['0', '1', 'a', 'b', 'c'],
      output: ['0', '1', 'a', 'd'],
      batch: [],
      contracted: ['c', 'b'],
      freeX: ['0', '1', 'a'],
      freeKernel: ['d'],
      layout: {in: [0, 1], out: [2]},
    });
    expect(planEinsum('abc,bcd->abd', 3)).toMatchObject({
      batch: ['b'],
      contracted: ['c'],
      layout: {in: [1], out: [0, 2]},
    });
  });

  test.each([
    ['ab,bc', 2, 'Expected an einsum equation of the form'],
    ['ab->ab', 2, 'Received: "ab->ab".'],
    ['', 2, 'Received: "".'],
    ['ab,bc,cd->ad', 2, 'of the form'],
    ['...a...,ab->...b...', 3, 'of the form'],
    ['...a,ab->b', 3, 'of the form'],
    ['a...,ab->...b', 3, 'of the form'],
    ['ab,...bc->ac', 2, 'of the form'],
    ['a1,1b->ab', 2, 'of the form'],
    ['aab,bc->ac', 3, 'Expected each label at most once per operand. Received: "aab,bc->ac".'],
    ['ab,bc->acc', 2, 'Expected each label at most once'],
    ['ab,bc->ad', 2, 'Label "d" of the result is in neither operand. Received: "ab,bc->ad".'],
    ['ab,bc->ac', 3, 'Equation "ab,bc->ac" expects an input of rank 2. Received: rank 3.'],
    ['...abc,cd->...abd', 2, 'expects an input of rank 3 or more. Received: rank 2.'],
  ])('refuses %j for rank %d', (equation, rank, message) => {
    expect(() => planEinsum(equation, rank)).toThrow(message);
  });

  test('operands must match', () => {
    const plan = planEinsum('ab,bc->ac', 2);
    expect(() => denseEinsum(normal([2, 3], 1), normal([4, 5], 2), plan)).toThrow(
      'Equation "ab,bc->ac": axis "b" has size 4 in the kernel. Received: 3 in an input of shape [2,3].',
    );
  });
});
