/** Errors on their way from a Worker, and threads of Node that end. */
import {Worker} from 'node:worker_threads';
import {ContextFullError, OutOfMemoryError, ValueError} from '../../src';
import {ModelWorker, WorkerEndedError} from '../../src/worker';
import {errorMessage, errorOf} from '../../src/worker/error_messages';

/** What arrives of an error. */
const sent = (error: unknown) => errorOf(structuredClone(errorMessage(error))) as Error;

describe('errors as messages', () => {
  const figures = {bytes: 8, used: 4, limit: 10, largest: 10};
  const coded = Object.assign(new TypeError('no such file'), {code: 'ENOENT', errno: -2});

  test.each([
    ['ValueError', new ValueError('Expected a number.'), ValueError],
    ['OutOfMemoryError', new OutOfMemoryError(figures), OutOfMemoryError],
    ['ContextFullError', new ContextFullError(9, 8), ContextFullError],
    ['TypeError with a code', coded, TypeError],
    ['RangeError', new RangeError('out of it'), RangeError],
  ])('%s: class, text, details and stack', (_, error, type) => {
    const arrived = sent(error);
    expect(arrived).toBeInstanceOf(type);
    const {name, message, stack} = error;
    expect({name: arrived.name, message: arrived.message, stack: arrived.stack}).toEqual({name, message, stack});
    const details = (one: object) => Object.fromEntries(Object.entries(one).filter(([key]) => key !== 'name'));
    expect(details(arrived)).toEqual(details(error));
  });

  test('a class that only the Worker knows becomes the nearest known one, and keeps its name', () => {
    class UnknownError extends ValueError {
      override name = 'UnknownError';
    }
    const arrived = sent(new UnknownError('what'));
    expect(arrived).toBeInstanceOf(ValueError);
    expect(String(arrived)).toBe('UnknownError: what');
  });

  test('causes arrive, and what cannot be sent is left out', () => {
    const cause = new ValueError('first');
    const error = Object.assign(new Error('then', {cause}), {close: () => {}, size: 3});
    const arrived = sent(error);
    expect(arrived.cause).toBeInstanceOf(ValueError);
    expect(String(arrived.cause)).toBe('ValueError: first');
    expect(Object.entries(arrived)).toEqual([['size', 3]]);
  });

  test('a DOMException keeps its name and code', () => {
    const arrived = sent(new DOMException('no room', 'QuotaExceededError'));
    expect(arrived).toBeInstanceOf(DOMException);
    expect(arrived).toMatchObject({name: 'QuotaExceededError', message: 'no room', code: 22});
  });

  test('a thrown value that is no error', () => {
    expect(errorOf(errorMessage({reason: 1}))).toEqual({reason: 1});
    expect(errorOf(errorMessage(undefined))).toBeUndefined();
    expect(errorOf(errorMessage(() => {}))).toBeInstanceOf(Error);
  });
});

describe('threads of Node', () => {
  const started = (code: string) => new ModelWorker(new Worker(code, {eval: true}));

  test('one that throws', async () => {
    const error = await started("throw new RangeError('of the thread')")
      .memory()
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(WorkerEndedError);
    expect(error).toMatchObject({reason: 'failed', cause: expect.objectContaining({message: 'of the thread'})});
    expect((error as Error).message).toBe(
      'Expected a Worker that runs. Received: one that threw RangeError: of the thread. Start another one, and load ' +
        'the model again.',
    );
  });

  test('one that ends', async () => {
    const worker = started('process.exit(3)');
    await expect(worker.memory()).rejects.toThrow(/Received: one that ended with code 3\./);
    expect((await worker.ended).reason).toBe('lost');
  });
});
