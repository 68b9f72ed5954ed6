/** Beam search against all possible continuations, and against a beam search without caches and batches. */
import fc from 'fast-check';
import {samplers} from '../../src';
import {collect} from '../support/collect';
import {FakeDecoder} from '../support/fake_decoder';

interface Found {
  tokens: number[];
  logProb: number;
}

const ends = (tokens: number[], length: number, maxLength: number, stop: number[]) =>
  length >= maxLength || stop.includes(tokens.at(-1)!);

/** All complete continuations, best first. */
function everything(decoder: FakeDecoder, prompt: number[], maxLength: number, stop: number[]): Found[] {
  const found: Found[] = [];
  const follow = (tokens: number[], logProb: number) => {
    decoder.logProbsOf([...prompt, ...tokens]).forEach((added, token) => {
      const next = {tokens: [...tokens, token], logProb: logProb + added};
      const done = ends(next.tokens, prompt.length + next.tokens.length, maxLength, stop);
      if (done) found.push(next);
      else follow(next.tokens, next.logProb);
    });
  };
  follow([], 0);
  return found.sort((a, b) => b.logProb - a.logProb);
}

/** Beam search by its definition, which continues every beam to its end. */
function plain(
  decoder: FakeDecoder,
  prompt: number[],
  {maxLength, stop, numBeams, temperature}: {maxLength: number; stop: number[]; numBeams: number; temperature: number},
): Found[] {
  let beams: (Found & {ended: boolean})[] = [{tokens: [], logProb: 0, ended: false}];
  while (beams.some(({ended}) => !ended)) {
    beams = beams
      .flatMap(beam => {
        if (beam.ended) return [beam];
        return decoder.logProbsOf([...prompt, ...beam.tokens], temperature).map((added, token) => {
          const tokens = [...beam.tokens, token];
          const ended = ends(tokens, prompt.length + tokens.length, maxLength, stop);
          return {tokens, logProb: beam.logProb + added, ended};
        });
      })
      .sort((a, b) => b.logProb - a.logProb)
      .slice(0, numBeams);
  }
  return beams.map(({tokens, logProb}) => ({tokens, logProb}));
}

function expectBeams(received: samplers.Beam[], expected: Found[]): void {
  expect(received.map(({tokens}) => tokens)).toEqual(expected.map(({tokens}) => tokens));
  expect(received.map(({logProb}) => logProb)).toBeAllClose(
    expected.map(({logProb}) => logProb),
    {atol: 5e-5},
  );
}

const prompts = [[1], [2, 0, 1]];

test.each([[[]], [[2]], [[0, 3]]])('with enough beams it finds the most probable continuation: stop %j', async stop => {
  for (let seed = 0; seed < 5; seed++) {
    const decoder = new FakeDecoder(4, {seed});
    const sampler = new samplers.BeamSampler({numBeams: 4 ** 3, returnAllBeams: true});
    const {tokens} = await collect(decoder, {prompts, maxLength: 4, stopTokenIds: stop, sampler});
    prompts.forEach((prompt, row) => {
      const all = everything(decoder, prompt, 4, stop);
      expect(tokens[row]).toEqual(all[0]!.tokens);
      expectBeams(sampler.beams![row]!, all.slice(0, 4 ** 3));
    });
    expect(decoder.open).toBe(0);
  }
});

test('with few beams it is a plain beam search: random vocabularies, lengths, widths, stop tokens', async () => {
  const cases = fc.record({
    vocabulary: fc.integer({min: 2, max: 7}),
    seed: fc.nat(1000),
    numBeams: fc.integer({min: 1, max: 6}),
    maxLength: fc.integer({min: 2, max: 9}),
    lengths: fc.array(fc.integer({min: 1, max: 5}), {minLength: 1, maxLength: 4}),
    stop: fc.array(fc.integer({min: 0, max: 6}), {maxLength: 2}),
    temperature: fc.constantFrom(0.5, 1, 2),
    returnAllBeams: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({vocabulary, seed, lengths, maxLength, ...rest}) => {
      const decoder = new FakeDecoder(vocabulary, {seed});
      const prompts = lengths.map((length, row) => Array.from({length}, (_, t) => (row + 3 * t) % vocabulary));
      const {numBeams, temperature, returnAllBeams, stop} = rest;
      const sampler = new samplers.BeamSampler({numBeams, temperature, returnAllBeams});
      const {tokens, steps} = await collect(decoder, {prompts, maxLength, stopTokenIds: stop, sampler});
      prompts.forEach((prompt, row) => {
        const expected = prompt.length >= maxLength ? [] : plain(decoder, prompt, {maxLength, ...rest});
        expect(tokens[row]).toEqual(expected[0]?.tokens ?? []);
        if (returnAllBeams && expected.length && sampler.beams) expectBeams(sampler.beams[row]!, expected);
      });
      if (!returnAllBeams) expect(sampler.beams).toBeNull();
      expect(steps.every(({tokens}) => tokens.some(token => token !== null))).toBe(true);
      expect(decoder.open).toBe(0);
    }),
    {numRuns: 150},
  );
});

test('yields tokens as soon as all beams agree on them', async () => {
  const decoder = new FakeDecoder(5, {seed: 3, spread: 12});
  let passes = 0;
  const sampler = new samplers.BeamSampler({numBeams: 2});
  const {steps} = await collect(decoder, {prompts: [[1]], maxLength: 30, stopTokenIds: null, sampler});
  expect(steps).toHaveLength(29);
  passes = decoder.passes.length;
  const early = new FakeDecoder(5, {seed: 3, spread: 12});
  const {generateSteps} = await import('../../src/generation/generation');
  for await (const step of generateSteps(early, {
    prompts: [{tokens: [1]}],
    maxLength: 30,
    stopTokenIds: null,
    sampler: new samplers.BeamSampler({numBeams: 2}),
  })) {
    if (step) break;
  }
  expect(early.passes.length).toBeLessThan(passes);
  expect(early.open).toBe(0);
});

test('ends when no beam can overtake the best', async () => {
  // Every token except 0 is a stop token, so that most beams end at once.
  const decoder = new FakeDecoder(6, {seed: 2, spread: 1});
  const sampler = new samplers.BeamSampler({numBeams: 3});
  await collect(decoder, {prompts: [[1]], maxLength: 1000, stopTokenIds: [1, 2, 3, 4, 5], sampler});
  expect(decoder.passes.length).toBeLessThan(10);
});

test('reports log probabilities of the tokens it returns', async () => {
  const decoder = new FakeDecoder(5, {seed: 8});
  const sampler = new samplers.BeamSampler({numBeams: 3, temperature: 0.5, returnAllBeams: true});
  const {tokens, logprobs} = await collect(decoder, {
    prompts: [[1], [2, 2]],
    maxLength: 7,
    stopTokenIds: [3],
    sampler,
    logprobs: 2,
  });
  [[1], [2, 2]].forEach((prompt, row) => {
    expect(logprobs[row]!.map(({id}) => id)).toEqual(tokens[row]);
    logprobs[row]!.forEach(({logprob, top}, t) => {
      const all = decoder.logProbsOf([...prompt, ...tokens[row]!.slice(0, t)]);
      expect(logprob).toBeCloseTo(all[tokens[row]![t]!]!, 4);
      expect(top.map(({id}) => id)).toEqual([...all.keys()].sort((a, b) => all[b]! - all[a]!).slice(0, 2));
    });
  });
});

test('applies penalties to each beam by its own text', async () => {
  const decoder = new FakeDecoder(4, {seed: 5, spread: 0.01});
  const sampler = new samplers.BeamSampler({numBeams: 4, presencePenalty: 100});
  const {tokens} = await collect(decoder, {prompts: [[1]], maxLength: 5, stopTokenIds: null, sampler});
  expect([...tokens[0]!].sort()).toEqual([0, 1, 2, 3]);
});

test.each([
  [{numBeams: 0}, /numBeams to be a positive integer. Received: numBeams=0/],
  [{numBeams: 2.5}, /numBeams/],
  [{returnAllBeams: 1}, /returnAllBeams to be true or false/],
  [{k: 3}, /no argument "k"/],
])('refuses %j', (args, message) => {
  expect(() => new samplers.BeamSampler(args as never)).toThrow(message);
});

test('returns its configuration', () => {
  expect(samplers.get('beam').getConfig()).toEqual({numBeams: 5, returnAllBeams: false, temperature: 1});
});
