/** Models behind a border: client and host on the ends of a channel, which clones what goes through it as a Worker does. */
import {readdirSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {
  ContextFullError,
  Gemma3CausalLM,
  Gemma3TextEmbedder,
  type Ending,
  type FitLogs,
  useBackend,
  ValueError,
} from '../../src';
import {ModelWorker, type RemoteCausalLM, WorkerEndedError} from '../../src/worker';
import {serve} from '../../src/worker/host';
import {ROOT, tinyPicture} from '../support/fixtures';

const QUESTION = 'What is the capital of France?';
const ANSWER = 'The capital of France is Paris.';

const channels: MessageChannel[] = [];
/** A client with a host of its own. */
function start(): ModelWorker {
  const channel = new MessageChannel();
  channels.push(channel);
  serve(channel.port2 as unknown as Parameters<typeof serve>[0]);
  return new ModelWorker(channel.port1 as unknown as Worker);
}

let worker: ModelWorker;
let lm: RemoteCausalLM;
let local: Gemma3CausalLM;
beforeAll(async () => {
  await useBackend('simd');
  worker = start();
  lm = await worker.loadCausalLM('gemma3_tiny');
  local = await Gemma3CausalLM.fromPreset('gemma3_tiny');
});
afterAll(async () => {
  await lm.dispose();
  local.dispose();
  for (const {port1} of channels) port1.close();
});

const collect = async (pieces: AsyncIterable<string>) => {
  const all: string[] = [];
  for await (const piece of pieces) all.push(piece);
  return all;
};

describe('text', () => {
  test('what a model is', () => {
    const {sequenceLength} = local.preprocessor!;
    const expected = {name: lm.info.name, sequenceLength, dtype: 'bfloat16', readsImages: true};
    expect(lm.info).toEqual({...expected, parameters: local.countParams()});
  });

  test('generate: as in the page, with every form of prompt and result', async () => {
    const many = [QUESTION, 'The sea'];
    const conversation = [{role: 'user', content: QUESTION} as const];
    const options = {maxNewTokens: 12};
    const detailed = {...options, logprobs: 2, details: true} as const;
    expect(await lm.generate(many, options)).toEqual(await local.generate(many, options));
    expect(await lm.generate(conversation, options)).toBe(ANSWER);
    expect(await lm.generate(many, detailed)).toEqual(await local.generate(many, detailed));
  });

  test('a cache of another dtype', async () => {
    const remote = await worker.loadCausalLM('gemma3_tiny', {cacheDtype: 'bfloat16'});
    const {backbone, preprocessor} = local;
    const other = new Gemma3CausalLM({backbone, preprocessor, cacheDtype: 'bfloat16'});
    const options = {maxNewTokens: 6, logprobs: 1} as const;
    const found = await remote.generate(QUESTION, options);
    expect(found).toEqual(await other.generate(QUESTION, options));
    expect(found).not.toEqual(await local.generate(QUESTION, options));
    await remote.dispose();
    other.dispose();
    const wrong = worker.loadCausalLM('gemma3_tiny', {cacheDtype: 'int8' as 'bfloat16'});
    await expect(wrong).rejects.toThrow('Gemma3CausalLM expected `cacheDtype` to be "float32" or "bfloat16".');
  });

  test('an image as a Blob', async () => {
    const prompts = 'What is in this image? <start_of_image>';
    const images = new Blob([readFileSync(tinyPicture('blue_square'))]);
    expect(await lm.generate({prompts, images}, {maxLength: 64, stripPrompt: true})).toMatch(/A blue square\.$/);
  });

  test('stream: the same pieces, with how the text ended', async () => {
    const endings: Ending[] = [];
    const read: number[] = [];
    const options = {
      onFinish: (ending: Ending) => void endings.push(ending),
      onPrefill: ({tokens}: {tokens: number}) => void read.push(tokens),
    };
    const answer = lm.stream(QUESTION, options);
    expect(answer.ending).toBeUndefined();
    expect(await collect(answer)).toEqual(await collect(local.stream(QUESTION)));
    const {usage} = await local.generate(QUESTION, {details: true});
    expect(answer.ending).toEqual({finishReason: 'stop', usage});
    expect(endings).toEqual([answer.ending]);
    expect(read).toEqual([usage.promptTokens]);
  });

  test('tokens', async () => {
    const {tokenizer} = local.preprocessor!;
    const ids = tokenizer.tokenize(QUESTION);
    expect(await lm.tokenize(QUESTION)).toEqual(ids);
    expect(await lm.detokenize(ids)).toBe(QUESTION);
    const {usage} = await local.generate([{role: 'user', content: QUESTION}], {maxNewTokens: 1, details: true});
    expect(await lm.countTokens([{role: 'user', content: QUESTION}])).toBe(usage.promptTokens);
    expect(await lm.countTokens([QUESTION, 'a'])).toEqual([ids.length + 1, 2]);
  });
});

describe('stop', () => {
  test('a signal: the loop gets every piece, then the reason', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const pieces: string[] = [];
    const answer = lm.stream('The capital of', {maxNewTokens: 500, stopTokenIds: null, signal: controller.signal});
    const reading = (async () => {
      for await (const piece of answer) {
        pieces.push(piece);
        controller.abort(reason);
      }
    })();
    await expect(reading).rejects.toBe(reason);
    expect(answer.ending!.finishReason).toBe('aborted');
    expect(answer.ending!.usage.newTokens).toBeLessThan(500);
  });

  test('a loop that is left', async () => {
    const answer = lm.stream('The capital of', {maxNewTokens: 500, stopTokenIds: null});
    for await (const _ of answer) break;
    expect(answer.ending!.finishReason).toBe('aborted');
    expect(await answer.next()).toEqual({done: true, value: undefined});
  });

  test('a signal that was aborted before, in every kind of call', async () => {
    const signal = AbortSignal.abort('before');
    await expect(lm.generate(QUESTION, {signal})).rejects.toBe('before');
    await expect(lm.stream(QUESTION, {signal}).next()).rejects.toBe('before');
    await expect(worker.loadCausalLM('gemma3_tiny', {signal})).rejects.toBe('before');
    await expect(lm.fit(['a'], {signal})).rejects.toBe('before');
  });
});

describe('conversations', () => {
  test('several at a time, each with its history and numbers', async () => {
    const [first, second] = await Promise.all([lm.startChat({maxLength: 256}), lm.startChat({system: 'Be brief.'})]);
    const inPage = local.startChat({maxLength: 256});
    const [answer] = await Promise.all([first.send(QUESTION), second.send('On which continent is Kenya?')]);
    expect(answer).toBe(await inPage.send(QUESTION));
    expect(await first.history()).toEqual(inPage.history);
    expect((await second.history())[0]).toEqual({role: 'system', content: 'Be brief.'});
    expect(await first.send('And of Peru?')).toBe(await inPage.send('And of Peru?'));
    const numbers = ({length, maxLength, promptLength, reused}: typeof inPage | typeof first) => [
      length,
      maxLength,
      promptLength,
      reused,
    ];
    expect(numbers(first)).toEqual(numbers(inPage));
    expect(first.reused).toBeGreaterThan(0);

    // A question that is changed: another conversation from the turns before it.
    const edited = await lm.startChat({history: (await first.history()).slice(0, 2)});
    expect(await collect(edited.stream('And of Kenya?'))).not.toHaveLength(0);
    expect(await edited.history()).toHaveLength(4);
    await collect(edited.regenerate());
    expect(await edited.history()).toHaveLength(4);
    await edited.clear();
    expect([await edited.history(), edited.length]).toEqual([[], 0]);
    await Promise.all([first, second, edited].map(chat => chat.dispose()));
    inPage.dispose();
    await expect(first.send('Hi')).rejects.toThrow(/Expected a model or a conversation in use/);
  });

  test('after a stop, the conversation has what the loop has yielded, and goes on', async () => {
    const chat = await lm.startChat();
    const controller = new AbortController();
    let text = '';
    const reading = (async () => {
      for await (const piece of chat.stream(QUESTION, {signal: controller.signal})) {
        text += piece;
        controller.abort();
      }
    })();
    await expect(reading).rejects.toThrow(/abort/);
    expect(await chat.history()).toEqual([
      {role: 'user', content: QUESTION},
      {role: 'assistant', content: text},
    ]);
    expect(await chat.send(QUESTION)).not.toBe('');
    await chat.dispose();
  });
});

describe('sources', () => {
  const preset = join(ROOT, 'presets', 'gemma3_tiny');
  const paths = (readdirSync(preset, {recursive: true}) as string[]).filter(path => /\.\w+$/.test(path));
  const blobs = Object.fromEntries(paths.map(path => [path, new Blob([readFileSync(join(preset, path))])]));

  test('Blobs by path, files of a folder, with progress by file and bytes', async () => {
    const seen: {file: string; loaded: number; total: number}[] = [];
    const options = {
      onProgress: (progress: (typeof seen)[number]) => void seen.push(progress),
      dtype: 'float32',
    } as const;
    const byPath = await worker.loadCausalLM(blobs, options);
    expect(byPath.info.dtype).toBe('float32');
    expect(seen.at(-1)!.loaded).toBe(seen[0]!.total);
    expect(seen[0]!.file).toBe('model.weights.h5');
    const files = Object.entries(blobs).map(([path, blob]) =>
      Object.defineProperty(new File([blob], path.split('/').at(-1)!), 'webkitRelativePath', {value: `folder/${path}`}),
    );
    const byFiles = await worker.loadCausalLM(files);
    const conversation = [{role: 'user', content: QUESTION} as const];
    for (const one of [byPath, byFiles]) {
      expect(await one.generate(conversation, {maxNewTokens: 12})).toBe(ANSWER);
      await one.dispose();
    }
  });

  test('a folder that is not there, and something else', async () => {
    await expect(worker.loadCausalLM('./nowhere')).rejects.toThrow(/Received: "\.\/nowhere", which is none of these/);
    await expect(worker.loadCausalLM(3 as never)).rejects.toThrow(ValueError);
    await expect(worker.loadCausalLM({'config.json': 'text'} as never)).rejects.toThrow(/BlobPreset expected/);
  });
});

test('embeddings: one array per text', async () => {
  const options = {poolingMode: 'mean', normalize: true} as const;
  const embedder = await worker.loadTextEmbedder('gemma3_tiny', options);
  const inPage = await Gemma3TextEmbedder.fromPreset('gemma3_tiny', options);
  const texts = ['Paris', 'The capital of France'];
  const expected = await inPage.encodeText(texts);
  expect((await embedder.encodeText(texts)).map(row => [...row])).toEqual(await expected.array());
  tf.dispose(expected);
  inPage.dispose();
  await embedder.dispose();
});

describe('training', () => {
  const data = {prompts: ['The sea is', 'The sky is'], responses: [' blue.', ' blue.']};
  const compile = {optimizer: {className: 'Adam', learningRate: 0.05}} as const;

  test('the losses, the adapter and the text of a model in the page', async () => {
    const tuned = await lm.clone();
    await tuned.enableLora(4, {seed: 1, targetLayerNames: ['query', 'value']});
    await tuned.compile({...compile, weightedMetrics: ['accuracy']});
    const inPage = local.clone();
    inPage.backbone.enableLora(4, {seed: 1, targetLayerNames: ['query', 'value']});
    const {optimizers} = await import('../../src');
    inPage.compile({optimizer: new optimizers.Adam({learningRate: 0.05}), weightedMetrics: ['accuracy']});

    const losses: FitLogs[] = [];
    const args = {epochs: 10, seed: 1, batchSize: 1};
    const callbacks = {onBatchEnd: (_: number, logs?: FitLogs) => void losses.push(logs!)};
    const {epoch, history} = await tuned.fit(data, {...args, callbacks});
    const expected = await inPage.fit(data, args);
    expect({epoch, history}).toEqual({epoch: expected.epoch, history: expected.history});
    expect(losses).toHaveLength(20);
    expect(losses.at(-1)).toMatchObject({step: 20, totalSteps: 20, learningRate: expect.closeTo(0.05)});
    const answer = await tuned.generate('The sea is', {maxLength: 24});
    expect(answer).toBe('The sea is blue.');
    expect(await lm.generate('The sea is', {maxLength: 24})).not.toBe(answer);

    const bytes = await tuned.saveLora();
    const peft = await tuned.exportPeft({baseModel: 'gemma3_tiny'});
    expect(Object.keys(peft).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    const other = await lm.clone();
    await other.loadLora(new File([bytes], 'tuned.lora.h5'));
    expect(await other.generate('The sea is', {maxLength: 24})).toBe(answer);
    await other.mergeLora();
    expect(await other.generate('The sea is', {maxLength: 24})).toBe(answer);
    const third = await lm.clone();
    await third.importPeft(Object.fromEntries(Object.entries(peft).map(([name, file]) => [name, new Blob([file])])));
    expect(await third.generate('The sea is', {maxLength: 24})).toBe(answer);

    // A run that continues.
    const state = await tuned.saveTrainingState();
    const rest = await tuned.fit(data, {epochs: 11, batchSize: 1, resumeFrom: state});
    expect(rest.history.loss).toHaveLength(11);
    await Promise.all([tuned, other, third].map(model => model.dispose()));
    inPage.dispose();
  });

  test('pause, try, go on, stop', async () => {
    const tuned = await lm.clone();
    await tuned.enableLora(2);
    await tuned.compile(compile);
    let steps = 0;
    const run = tuned.fit(data, {epochs: 1000, callbacks: {onBatchEnd: () => void steps++}});
    await run.pause();
    const before = steps;
    await tuned.generate('The sea is', {maxNewTokens: 4});
    expect(steps).toBe(before);
    run.resume();
    while (steps < before + 3) await new Promise(resolve => setTimeout(resolve, 5));
    run.stop();
    const {history} = await run;
    expect(history.loss!.length).toBeGreaterThanOrEqual(before + 3);
    expect(history.loss!.length).toBeLessThan(1000);
    await run.pause(); // has ended: nothing to wait for

    const controller = new AbortController();
    const paused = tuned.fit(data, {epochs: 1000, signal: controller.signal});
    await paused.pause();
    controller.abort('no more');
    await expect(paused).rejects.toBe('no more');
    await tuned.dispose();
  });

  test('an error of a callback ends the run, as in the page', async () => {
    const tuned = await lm.clone();
    await tuned.enableLora(2);
    const error = new Error('of the page');
    const callbacks = {
      onBatchEnd: () => {
        throw error;
      },
    };
    await expect(tuned.fit(data, {epochs: 1000, callbacks})).rejects.toBe(error);
    await expect(tuned.compile({optimizer: {className: 'Rprop'} as never})).rejects.toThrow(/Received: "Rprop"/);
    await tuned.dispose();
  });
});

describe('errors', () => {
  test('keep class, text and details', async () => {
    const error = await lm.generate(QUESTION, {maxLength: 3}).catch((thrown: unknown) => thrown);
    const expected = await local.generate(QUESTION, {maxLength: 3}).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ContextFullError);
    const {name, message, tokens, maxLength, stack} = error as ContextFullError;
    expect({name, message, tokens, maxLength}).toEqual({
      ...(expected as ContextFullError),
      message: (expected as Error).message,
    });
    expect(stack).toContain('checkRoom');
  });

  test('an option that is not there', async () => {
    await expect(lm.generate(QUESTION, {maxLenght: 3} as never)).rejects.toThrow(/Did you mean "maxLength"/);
  });

  test('arguments that a Worker cannot receive', async () => {
    const generate = (options: object) => lm.generate(QUESTION, options);
    await expect(generate({stopStrings: () => 'x'})).rejects.toThrow(/Expected arguments that a Worker can receive/);
    expect(() => new ModelWorker({} as never)).toThrow(/Expected a Worker: new Worker/);
    expect(() => serve()).toThrow(/Received: a call in a page/);
    await expect(lm.stream(QUESTION, {signal: new AbortController() as never}).next()).rejects.toThrow(
      /Expected signal to be an AbortSignal. Received: AbortController/,
    );
  });

  test('disposed: once more is fine, anything else is not', async () => {
    const copy = await lm.clone();
    await copy.dispose();
    await copy.dispose();
    await expect(copy.generate('a')).rejects.toThrow(/Expected a model or a conversation in use/);
  });
});

test('backends and memory', async () => {
  expect(await worker.useBackend('simd')).toBe('simd');
  const backends = await worker.describeBackends();
  expect(backends.filter(({inUse}) => inUse).map(({name}) => name)).toEqual(['simd']);
  expect(backends.find(({name}) => name === 'cpu')).toMatchObject({available: true, inUse: false});
  const {numTensors} = tf.memory();
  expect(await worker.memory()).toMatchObject({numTensors, heapBytes: expect.any(Number)});
});

describe('the end of a Worker', () => {
  test('terminate rejects what is pending, and what comes later', async () => {
    const mortal = start();
    const model = await mortal.loadCausalLM('gemma3_tiny');
    const stream = model.stream('The capital of', {maxNewTokens: 40, stopTokenIds: null});
    await stream.next();
    const pending = model.generate(QUESTION);
    const failed = Promise.allSettled([pending, collect(stream)]);
    mortal.terminate();
    for (const one of await failed) {
      expect(one).toMatchObject({status: 'rejected', reason: expect.any(WorkerEndedError)});
      expect((one as PromiseRejectedResult).reason).toMatchObject({reason: 'terminated'});
    }
    await expect(model.tokenize('a')).rejects.toThrow(/Received: one that was terminated. Start another one/);
    expect(await mortal.ended).toBeInstanceOf(WorkerEndedError);
  });

  test('nothing stays in memory', async () => {
    const before = tf.memory().numTensors;
    const copy = await lm.clone();
    const chat = await copy.startChat();
    await chat.send('Hi', {maxNewTokens: 3});
    await chat.dispose();
    await copy.enableLora(2);
    await copy.compile({optimizer: {className: 'AdamW', learningRate: 1e-3}});
    await copy.fit(['The sea is blue.']);
    await copy.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });
});
