/** Models that are disposed or change while something uses them, and calls that overlap. */
import * as tf from '@tensorflow/tfjs';
import {files, type Gemma3CausalLM, samplers, ValueError} from '../../src';
import {expectNoLeak} from '../support/numbers';
import {smallModel} from '../support/small_model';

const options = {stopTokenIds: null, maxLength: 14};
const DISPOSED = /Expected a model in use. Received: "gemma3_causal_lm.*", which was disposed/;
const CHANGED = /Expected the same weights from beginning to end of .* Received: weights that changed meanwhile/;
const one = {token_ids: [[2]], padding_mask: [[1]]};

/** A model whose weights have values. */
function model(): Gemma3CausalLM {
  const lm = smallModel();
  tf.dispose(lm.predict(one));
  return lm;
}

async function failureOf(call: Promise<unknown>): Promise<Error> {
  const error = await call.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ValueError);
  return error as Error;
}

async function joined(pieces: AsyncIterable<string>): Promise<string> {
  let text = '';
  for await (const piece of pieces) text += piece;
  return text;
}

/** A sink that calls back while weights are written. */
class Watching extends files.MemoryPreset {
  constructor(private readonly onWrite: () => Promise<void> | void) {
    super();
  }
  override async create(...args: Parameters<files.MemoryPreset['create']>) {
    if (args[0].endsWith('.h5')) await this.onWrite();
    return super.create(...args);
  }
}

test('a disposed model says so, whatever is called, and may be disposed again', async () => {
  await expectNoLeak(async () => {
    const lm = model();
    const {backbone} = lm;
    const [session, chat] = [lm.startSession({maxLength: 20}), lm.startChat({maxLength: 20})];
    await session.generate('The', options);
    lm.dispose();
    lm.dispose();
    backbone.dispose();
    const ids = tf.tensor2d([[2, 3]], undefined, 'int32');
    for (const call of [
      () => lm.generate('The'),
      () => joined(lm.stream('The')),
      () => session.generate('The'),
      () => chat.send('The'),
      () => lm.fit(['The']),
      () => lm.trainOnBatch(['The']),
      () => lm.evaluate(['The']),
      () => lm.saveToPreset(new files.MemoryPreset()),
      () => lm.save(tf.io.withSaveHandler(async () => ({modelArtifactsInfo: {} as never}))),
      () => lm.quantize('bfloat16'),
      () => lm.mergeLora(),
      async () => lm.startSession(),
      async () => lm.startChat(),
      async () => lm.predict(one),
      async () => lm.score({tokenIds: ids}),
      async () => lm.clone(),
      async () => lm.newCache(1, 4),
    ]) {
      expect((await failureOf((async () => call())())).message).toMatch(DISPOSED);
    }
    expect(() => lm.getWeights()).toThrow(/one that was disposed, as its weight ".*" shows/);
    expect(() => backbone.enableLora(2)).toThrow(/"gemma3_backbone.*", which was disposed/);
    expect(() => backbone.tokenEmbedding.call(ids)).toThrow(/one that was disposed, as its weight/);
    ids.dispose();
    session.dispose();
    chat.dispose();
  });
});

test.each<[string, (lm: Gemma3CausalLM, stop: () => void) => Promise<unknown>]>([
  ['generate', (lm, stop) => lm.generate(['The', 'A'], {...options, onPrefill: stop})],
  ['stream', (lm, stop) => joined(lm.stream('The', {...options, onPrefill: stop}))],
  ['fit', (lm, stop) => lm.fit(['The', 'A'], {batchSize: 1, callbacks: {onBatchEnd: async () => stop()}})],
  ['fit, within a batch', (lm, stop) => (setTimeout(stop), lm.fit(['The', 'A', 'An'], {batchSize: 1, epochs: 50}))],
  ['evaluate', (lm, stop) => (setTimeout(stop), lm.evaluate(Array(300).fill('The quick brown'), {batchSize: 1}))],
  ['saveToPreset', (lm, stop) => lm.saveToPreset(new Watching(stop))],
])('disposal during %s ends it with an error, and nothing is left', async (_, run) => {
  await expectNoLeak(async () => {
    const lm = model();
    const message = (await failureOf(run(lm, () => void lm.dispose()))).message;
    expect(message).toMatch(/which was disposed|one that was disposed/);
  });
});

test('a model whose backbone is used elsewhere ends its own calls, and leaves the backbone', async () => {
  await expectNoLeak(async () => {
    const first = model();
    const second = new (first.constructor as typeof Gemma3CausalLM)({
      backbone: first.backbone,
      preprocessor: first.preprocessor,
    });
    const expected = await second.generate('The', options);
    await failureOf(first.generate('The', {...options, onPrefill: () => void first.dispose()}));
    await failureOf(first.fit(['The']));
    expect(await second.generate('The', options)).toBe(expected);
    second.dispose();
  });
});

describe('overlapping calls', () => {
  let lm: Gemma3CausalLM;
  beforeEach(() => void (lm = model()));
  afterEach(() => void lm.dispose());

  test('texts are the same as one after another', async () => {
    const prompts = ['The quick', 'Another', 'The'];
    const expected: string[] = [];
    for (const prompt of prompts) expected.push(await lm.generate(prompt, options));
    expect(await Promise.all(prompts.map(prompt => lm.generate(prompt, options)))).toEqual(expected);
    const streams = prompts.map(prompt => joined(lm.stream(prompt, {...options, stripPrompt: false})));
    expect(await Promise.all(streams)).toEqual(expected);
    lm.compile({sampler: new samplers.BeamSampler({numBeams: 2, returnAllBeams: true})});
    const [first, second] = await Promise.all([lm.generate('The', options), lm.generate('The', options)]);
    expect(second).toBe(first);
  });

  test('a session and a conversation take one call at a time, and go on', async () => {
    const session = lm.startSession({maxLength: 30});
    const expected = await lm.generate('The quick', options);
    const [first, second] = await Promise.allSettled([1, 2].map(() => session.generate('The quick', options)));
    expect(first).toEqual({status: 'fulfilled', value: expected});
    expect(String((second as PromiseRejectedResult).reason)).toMatch(/This session is generating a text/);
    expect(await session.generate('The quick', options)).toBe(expected);
    session.dispose();

    const alone = lm.startChat({maxLength: 60});
    const answer = await alone.send('The', {maxNewTokens: 4});
    const chat = lm.startChat({maxLength: 60});
    const [asked, refused] = await Promise.allSettled(['The', 'A'].map(text => chat.send(text, {maxNewTokens: 4})));
    expect(asked).toEqual({status: 'fulfilled', value: answer});
    expect(String((refused as PromiseRejectedResult).reason)).toMatch(/This conversation is generating an answer/);
    expect(chat.history).toEqual(alone.history);
    const running = chat.stream('A', {maxNewTokens: 4});
    void running.next();
    expect(() => chat.clear()).toThrow('generating an answer');
    expect(() => chat.dispose()).toThrow('generating an answer');
    await running.return();
    chat.dispose();
    alone.dispose();
  });

  test.each<[string, () => Promise<unknown> | void]>([
    ['a step of training', () => lm.trainOnBatch(['The quick'])],
    ['setWeights', () => tf.tidy(() => lm.setWeights(lm.getWeights().map(w => tf.add(w, 1))))],
    ['quantize', () => lm.quantize('bfloat16')],
    ['LoRA', () => lm.backbone.enableLora(2)],
  ])('%s during a text is noticed', async (_, change) => {
    lm.compile({optimizer: tf.train.sgd(0.1)});
    const stream = lm.stream('The', options);
    await stream.next();
    await change();
    const before = tf.memory().numTensors;
    expect((await failureOf(joined(stream))).message).toMatch(CHANGED);
    // The keys and values of seven blocks are gone.
    expect(tf.memory().numTensors).toBe(before - 14);
  });

  test('saving and evaluating during training is refused, and training goes on', async () => {
    lm.compile({optimizer: tf.train.sgd(0.1)});
    const target = new Watching(async () => void (await lm.trainOnBatch(['The quick'])));
    expect((await failureOf(lm.saveToPreset(target))).message).toMatch(CHANGED);
    expect(target.files.size).toBe(0);
    const fitting = lm.fit(Array(4).fill('The'), {batchSize: 1});
    const evaluating = lm.evaluate(Array(4).fill('The'), {batchSize: 1});
    expect((await failureOf(evaluating)).message).toMatch(CHANGED);
    await fitting;
    // During a callback the weights do not change.
    const texts: string[] = [];
    await lm.fit(['The quick'], {
      callbacks: {onEpochEnd: async () => void texts.push(await lm.generate('The', options))},
    });
    expect(texts).toEqual([await lm.generate('The', options)]);
  });

  test('a session notices that the weights have changed', async () => {
    const session = lm.startSession({maxLength: 30});
    await session.generate('The quick', options);
    lm.compile({optimizer: tf.train.sgd(0.5)});
    await lm.trainOnBatch(['The quick brown fox']);
    expect(await session.generate('The quick', options)).toBe(await lm.generate('The quick', options));
    expect(session.reused).toBe(0);
    await session.generate('The quick', options);
    expect(session.reused).toBeGreaterThan(0);
    session.dispose();
  });
});
