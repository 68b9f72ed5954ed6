/** Beam search, contrastive search, log probabilities and scores against Python KerasHub, on tiny random models. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, samplers} from '../../../src';
import {onEveryBackend} from '../../support/backends';
import {collect} from '../../support/collect';
import {fixture, fixtureJson} from '../../support/fixtures';
import {expectNoLeak, take} from '../../support/numbers';

interface Case {
  name: string;
  prompts: number[][];
  beam: {num_beams: number; temperature: number; rows: {token_ids: number[][]; log_probs: number[]}[]}[];
  contrastive: {k: number; alpha: number; temperature: number; token_ids: number[][]}[];
  loss: number[];
  gradient: number[];
}
interface Forward {
  batch: number;
  length: number;
  token_ids: number[];
  padding_mask: number[];
  logits: number[];
}
const {length, cases} = fixtureJson<{length: number; cases: Case[]}>('sampling/expected.json');

onEveryBackend(() =>
  describe.each(cases)('$name', ({name, prompts, beam, contrastive, loss, gradient}) => {
    let lm: Gemma3CausalLM;
    beforeAll(async () => {
      lm = await Gemma3CausalLM.fromPreset(fixture(`backbone/${name}`), {preprocessor: null, dtype: 'float32'});
    });
    afterAll(() => lm.dispose());
    const request = {prompts, maxLength: length, stopTokenIds: null};

    test.each(beam)(
      'finds the $num_beams beams of KerasHub at temperature $temperature',
      async ({num_beams, temperature, rows}) => {
        const sampler = new samplers.BeamSampler({numBeams: num_beams, temperature, returnAllBeams: true});
        const {tokens} = await collect(lm, {...request, sampler});
        rows.forEach(({token_ids, log_probs}, row) => {
          const expected = token_ids.map(ids => ids.slice(prompts[row]!.length));
          expect(sampler.beams![row]!.map(({tokens}) => tokens)).toEqual(expected);
          expect(tokens[row]).toEqual(expected[0]);
          expect(sampler.beams![row]!.map(({logProb}) => logProb)).toBeAllClose(log_probs, {atol: 2e-4});
        });
      },
    );

    test.each(contrastive)('searches as KerasHub: k $k, alpha $alpha', async ({k, alpha, temperature, token_ids}) => {
      const {tokens} = await collect(lm, {
        ...request,
        sampler: new samplers.ContrastiveSampler({k, alpha, temperature}),
      });
      expect(tokens).toEqual(token_ids.map((ids, row) => ids.slice(prompts[row]!.length)));
    });

    test('generates the greedy text with speculative decoding', async () => {
      const greedy = await collect(lm, {...request, sampler: new samplers.GreedySampler()});
      const sampler = new samplers.SpeculativeSampler({lookup: [2, 1]});
      expect((await collect(lm, {...request, sampler})).tokens).toEqual(greedy.tokens);
    });

    test('scores as KerasHub, with gradients', async () => {
      const forward = fixtureJson<Forward>(`backbone/${name}/expected.json`);
      const shape: [number, number] = [forward.batch, forward.length];
      await expectNoLeak(async () => {
        const tokenIds = tf.tensor2d(forward.token_ids, shape, 'int32');
        const paddingMask = tf.tensor2d(forward.padding_mask, shape, 'bool');
        const targetIds = tf.tidy(() => {
          const [first, rest] = tf.split(tokenIds, [1, shape[1] - 1], 1) as [tf.Tensor, tf.Tensor];
          return tf.concat([rest, first], 1);
        });
        const logits = lm.score({tokenIds, paddingMask});
        expect(logits.shape).toEqual([...shape, lm.backbone.config.vocabularySize]);
        expect(await take(logits)).toBeAllClose(forward.logits, {atol: 1e-4});

        const layers: [number, number[]][] = [];
        let embeddings!: tf.Tensor;
        const args = {tokenIds, paddingMask, targetIds, scoringMode: 'loss'} as const;
        const scores = lm.score({
          ...args,
          layerInterceptFn: (x, i) => {
            layers.push([i, x.shape]);
            if (i === -1) embeddings = tf.keep(tf.clone(x));
            return x;
          },
        });
        expect(scores.shape).toEqual(shape);
        expect(await take(scores)).toBeAllClose(loss, {atol: 1e-4});
        const {numLayers, hiddenDim} = lm.backbone.config;
        const indices = Array.from({length: numLayers + 1}, (_, i) => i - 1);
        expect(layers).toEqual(indices.map(i => [i, [...shape, hiddenDim]]));

        const gradients = tf.grad(x => lm.score({...args, layerInterceptFn: (own, i) => (i === -1 ? x : own)}))(
          embeddings,
        );
        expect(await take(gradients)).toBeAllClose(gradient, {rtol: 1e-4});
        tf.dispose([tokenIds, paddingMask, targetIds, embeddings]);
      });
    });

    test('passes the result of layerInterceptFn to the next layer', async () => {
      const tokenIds = tf.tensor2d([[3, 1, 4, 1, 5]], undefined, 'int32');
      for (const at of [-1, 0]) {
        const plain = await take(lm.score({tokenIds}));
        const halved = await take(lm.score({tokenIds, layerInterceptFn: (x, i) => (i === at ? tf.mul(x, 0.5) : x)}));
        expect(plain).not.toBeAllClose(halved, {atol: 1e-3});
      }
      tokenIds.dispose();
    });

    test('reports log probabilities of the tokens it generates', async () => {
      const ids = tf.tensor2d(
        prompts.map(prompt => [...prompt, ...Array<number>(length - prompt.length).fill(0)]),
        undefined,
        'int32',
      );
      const mask = tf.tensor2d(
        prompts.map(prompt => Array.from({length}, (_, t) => Number(t < prompt.length))),
        undefined,
        'bool',
      );
      lm.compile({sampler: new samplers.TopKSampler({k: 9, temperature: 2, seed: 1, repetitionPenalty: 1.5})});
      const out = await lm.generate({token_ids: ids, padding_mask: mask}, {stopTokenIds: null, logprobs: 3});
      const logits = tf.tidy(() => tf.logSoftmax(lm.score({tokenIds: out.token_ids})));
      const expected = (await logits.array()) as number[][][];
      const rows = (await out.token_ids.array()) as number[][];
      prompts.forEach((prompt, row) => {
        expect(out.logprobs[row]!.map(({id}) => id)).toEqual(rows[row]!.slice(prompt.length));
        out.logprobs[row]!.forEach(({id, logprob, top}, t) => {
          const all = expected[row]![prompt.length + t - 1]!;
          expect(Math.abs(logprob - all[id]!)).toBeLessThan(1e-4);
          const best = [...all].sort((a, b) => b - a).slice(0, 3);
          expect(top.map(({logprob}) => logprob)).toBeAllClose(best, {atol: 1e-4});
          expect(top.map(({id}) => all[id])).toEqual(best);
        });
      });
      tf.dispose([ids, mask, logits, out.token_ids, out.padding_mask]);
      lm.compile();
    });
  }),
);

describe('score', () => {
  let lm: Gemma3CausalLM;
  beforeAll(async () => {
    lm = await Gemma3CausalLM.fromPreset(fixture('backbone/post_norms'), {preprocessor: null});
  });
  afterAll(() => lm.dispose());

  test.each([
    [{}, /tokenIds. as a tensor/],
    [{tokenIds: [1, 2]}, /tokenIds. as a tensor or nested arrays \(batch, tokens\)/],
    [{tokenIds: tf.zeros([3])}, /Received: shape \[3\]/],
    [{paddingMask: tf.zeros([1, 3])}, /paddingMask. of the shape of tokenIds, \[1,2\]. Received: \[1,3\]/],
    [{scoringMode: 'best'}, /Unsupported scoringMode. Must be one of "logits" or "loss"/],
    [{scoringMode: 'loss'}, /Cannot compute loss without targets/],
    [{targetIds: tf.zeros([1, 2])}, /only with scoringMode "loss"/],
    [{layerInterceptFn: 3}, /as a function/],
    [{layerInterceptFn: () => undefined}, /to return activations \[1,2,8\]. Received: undefined/],
    [{mask: 1}, /no argument "mask"/],
  ])('refuses invalid arguments (%#)', (args, message) => {
    const tokenIds = tf.zeros([1, 2], 'int32');
    const base = Object.keys(args).length === 0 || 'tokenIds' in args ? {} : {tokenIds};
    expect(() => lm.score({...base, ...args} as never)).toThrow(message);
  });
});
