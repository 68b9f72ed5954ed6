/** Random numbers: distributions, independence, seeds. */
import {RandomNumbers} from '../../src/weights/random';

const COUNT = 2_000_000;
const normal = (seed?: number, limit?: number) => {
  const out = new Float32Array(COUNT);
  new RandomNumbers(seed).normal(out, 0, 1, limit);
  return out;
};
const moment = (values: Float32Array, power: number) => values.reduce((sum, x) => sum + x ** power, 0) / values.length;
const share = (values: Float32Array, from: number, to: number) =>
  values.reduce((sum, x) => sum + (x >= from && x < to ? 1 : 0), 0) / values.length;

/** Cumulative standard normal distribution, from the series of the error function. */
function below(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n++) sum += term *= (-x * x * (2 * n - 1)) / (2 * n * (2 * n + 1));
  return 0.5 + sum / Math.sqrt(2 * Math.PI);
}

/** Expects the shares of these bins to be right within five standard deviations of their counts. */
function expectShares(values: Float32Array, edges: number[], cumulative: (x: number) => number): void {
  for (let i = 1; i < edges.length; i++) {
    const [from, to] = [edges[i - 1]!, edges[i]!];
    const p = cumulative(to) - cumulative(from);
    const error = Math.abs(share(values, from, to) - p) / Math.sqrt((p * (1 - p)) / values.length);
    if (!(error < 5)) throw new Error(`[${from}, ${to}): ${share(values, from, to)}, expected ${p}.`);
  }
}

test('normal values have the moments, the bins and the tails of the distribution', () => {
  const values = normal(1);
  expect(Math.abs(moment(values, 1))).toBeLessThan(5 / Math.sqrt(COUNT));
  expect(Math.abs(moment(values, 2) - 1)).toBeLessThan(5 * Math.sqrt(2 / COUNT));
  expect(Math.abs(moment(values, 3))).toBeLessThan(5 * Math.sqrt(15 / COUNT));
  expect(Math.abs(moment(values, 4) - 3)).toBeLessThan(5 * Math.sqrt(96 / COUNT));
  expectShares(
    values,
    Array.from({length: 33}, (_, i) => -4 + i / 4),
    below,
  );
  // On each side, 31.7 in a million lie beyond four.
  const tail = values.reduce((sum, x) => sum + (Math.abs(x) > 4 ? 1 : 0), 0);
  expect(Math.abs(tail - 6.334e-5 * COUNT)).toBeLessThan(5 * Math.sqrt(6.334e-5 * COUNT));
  const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  expect(largest).toBeGreaterThan(4.5);
  expect(largest).toBeLessThan(7);
});

test('neighbouring values are independent', () => {
  const values = normal(2);
  for (const lag of [1, 2, 3, 64]) {
    let sum = 0;
    for (let i = lag; i < COUNT; i++) sum += values[i]! * values[i - lag]!;
    expect(Math.abs(sum / COUNT)).toBeLessThan(5 / Math.sqrt(COUNT));
  }
});

test('truncated values stay within their limit', () => {
  const values = normal(3, 2);
  const inside = below(2) - below(-2);
  expect(values.every(x => Math.abs(x) < 2)).toBe(true);
  expect(Math.sqrt(moment(values, 2))).toBeCloseTo(0.8796, 3);
  expectShares(
    values,
    Array.from({length: 17}, (_, i) => -2 + i / 4),
    x => (below(x) - below(-2)) / inside,
  );
});

test('uniform values', () => {
  const values = new Float32Array(COUNT);
  new RandomNumbers(4).uniform(values, -3, 5);
  expectShares(
    values,
    Array.from({length: 33}, (_, i) => -3 + i / 4),
    x => (x + 3) / 8,
  );
});

test('a seed gives the same values, in one piece or several; without one they differ', () => {
  const whole = normal(7);
  const parts = new Float32Array(1000);
  const numbers = new RandomNumbers(7);
  for (let i = 0; i < 1000; i += 100) numbers.normal(parts.subarray(i, i + 100), 0, 1);
  expect(parts).toEqual(whole.slice(0, 1000));
  expect(normal(8).slice(0, 9)).not.toEqual(whole.slice(0, 9));
  expect(normal(7.5).slice(0, 9)).not.toEqual(whole.slice(0, 9));
  expect(normal().slice(0, 9)).not.toEqual(normal().slice(0, 9));
});
