/** Selects among made-up backends, which are known only through the list. */
import {type Backend, UnavailableError} from '../../src/backends/backend';
import {backends} from '../../src/backends/all';
import {backendNames, describeBackends, useBackend} from '../../src/backends/use_backend';

const mockUsed: [name: string, options: object][] = [];

jest.mock('../../src/backends/all', () => {
  const backend = (name: string, rest: Partial<Backend>): Backend => ({
    name,
    options: [],
    unavailable: async () => undefined,
    preferred: () => true,
    use: async options => void mockUsed.push([name, options]),
    details: async () => `details of ${name}`,
    ...rest,
  });
  return {
    backends: [
      backend('missing', {unavailable: async () => 'there is no such device.'}),
      backend('slow', {preferred: () => false, options: ['threads']}),
      backend('fast', {}),
      backend('last', {}),
    ],
  };
});

let warn: jest.SpyInstance;
beforeEach(() => {
  mockUsed.splice(0);
  warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
});
afterEach(() => jest.restoreAllMocks());

const choose = (name: string, options?: object) => useBackend(name as 'auto', options);

test('names follow the list', () => {
  expect(backendNames).toEqual(['auto', 'missing', 'slow', 'fast', 'last']);
});

test('"auto" uses the first backend that is available and preferred, and warns about better ones', async () => {
  expect(await useBackend()).toBe('fast');
  expect(mockUsed).toEqual([['fast', {}]]);
  await useBackend();
  expect(warn.mock.calls).toEqual([
    ['The backend is "fast", because faster ones cannot be used here. missing: there is no such device.'],
  ]);
});

describe('a backend that only turns out to be unusable when it starts', () => {
  const fast = (backends as readonly Backend[])[2]!;
  const refuse = () => Promise.reject(new UnavailableError('it was refused.'));

  test('"auto" goes on to the next, with the reason', async () => {
    jest.spyOn(fast, 'use').mockImplementation(refuse);
    expect(await useBackend()).toBe('last');
    expect(warn).toHaveBeenCalledWith(expect.stringMatching(/^The backend is "last", .* fast: it was refused\.$/));
    await expect(choose('fast')).rejects.toThrow('Backend "fast" cannot be used here. fast: it was refused.');
  });

  test('other errors are passed on', async () => {
    jest.spyOn(fast, 'use').mockRejectedValue(new Error('a mistake'));
    await expect(useBackend()).rejects.toThrow('a mistake');
  });

  test('descriptions never throw', async () => {
    jest.spyOn(fast, 'details').mockImplementation(refuse);
    expect((await describeBackends())[2]).toEqual({name: 'fast', available: false, details: 'it was refused.'});
  });
});

test('a name selects a backend that is not preferred, with its options', async () => {
  expect(await choose('slow', {threads: 3})).toBe('slow');
  expect(mockUsed).toEqual([['slow', {threads: 3}]]);
});

test('an unavailable backend is refused with its reason', async () => {
  await expect(choose('missing')).rejects.toThrow(
    'Backend "missing" cannot be used here. missing: there is no such device.',
  );
});

test('unknown names and options are refused', async () => {
  await expect(choose('other')).rejects.toThrow(
    'Expected a backend: "auto", "missing", "slow", "fast", "last". Received: "other".',
  );
  await expect(choose('slow', {thread: 3})).rejects.toThrow(/Backend "slow".*"thread". Expected: threads/);
  expect(mockUsed).toEqual([]);
});

test('descriptions are in the order of the list, with the reason of an unavailable backend', async () => {
  expect(await describeBackends()).toEqual([
    {name: 'missing', available: false, details: 'there is no such device.'},
    ...['slow', 'fast', 'last'].map(name => ({name, available: true, details: `details of ${name}`})),
  ]);
});
