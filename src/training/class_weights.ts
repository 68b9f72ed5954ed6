/** Class weights: the weight of a token in training depends on the token that should follow it. */
import {show, ValueError} from '../base/errors';
import {Fingerprint} from '../base/fingerprint';
import {type Batch, weightedTokens} from './batch';
import {type Examples, isText} from './examples';

/** Weights by token id. Tokens that are not listed have weight 1. */
export type ClassWeights = Readonly<Record<number, number>>;

/** @throws ValueError unless it has at least one weight, all are finite, and their names are ids of the vocabulary. */
export function checkClassWeights(owner: string, weights: unknown, vocabulary: number): void {
  const fail = (received: string): never => {
    throw new ValueError(
      `${owner} expected \`classWeight\` as {[token id]: weight}, with ids from 0 to ${vocabulary - 1} and finite ` +
        `weights, at least one. Received: ${received}.`,
    );
  };
  if (typeof weights !== 'object' || weights === null || Array.isArray(weights)) fail(show(weights));
  const entries = Object.entries(weights as object);
  if (entries.length === 0) fail('{}');
  for (const [id, weight] of entries) {
    if (!/^(0|[1-9]\d*)$/.test(id) || Number(id) >= vocabulary || !Number.isFinite(weight)) fail(show({[id]: weight}));
  }
}

/** @throws ValueError for data that already has weights, as in Keras. */
export function checkUnweighted(owner: string, data: unknown): void {
  const text = isText(data);
  if (!text && (data as unknown[]).length < 3) return;
  throw new ValueError(
    `${owner} expected either \`classWeight\` or weights of tokens. Received both: ` +
      (text ? 'the preprocessor weighs the tokens of text. Pass its `x` and `y` instead.' : '`sampleWeight` as well.'),
  );
}

/** Examples whose tokens have the weights of their labels, instead of their own. */
export class ClassWeightedExamples implements Examples {
  readonly lengths: readonly number[];
  readonly sequenceLength: number;

  /** @param examples stay the caller's. All their tokens have weight 1. */
  constructor(
    private readonly examples: Examples,
    private readonly weights: ClassWeights,
  ) {
    this.lengths = examples.lengths;
    this.sequenceLength = examples.sequenceLength;
  }

  async batch(rows: readonly number[], length: number): Promise<Batch> {
    const batch = await this.examples.batch(rows, length);
    const weights = Float32Array.from(batch.labels, label => this.weights[label] ?? 1);
    return {...batch, ...weightedTokens({y: batch.labels, weights})};
  }

  fingerprint(): string {
    const hash = new Fingerprint();
    hash.addText(this.examples.fingerprint());
    hash.addNumbers(Object.entries(this.weights).flat().map(Number));
    return String(hash);
  }

  dispose(): void {}
}
