/** Redirects, credentials and repetition, with a `fetch` that returns given answers. */
import * as store from '#platform/store';
import {mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {downloadFiles} from '../../src/hub/download';
import {FolderShelf} from '../../src/hub/folder_shelf';
import {nameOf, Requests, Unreachable} from '../../src/hub/requests';

jest.mock('#platform/store', () => ({...jest.requireActual<object>('#platform/store'), __esModule: true}));

const redirect = (location?: string) => new Response(null, {status: 302, headers: location ? {location} : {}});

/** Requests that get these answers in order, and a record of the requests. */
function asking(...answers: (Response | Error)[]) {
  const asked: [string, string | null][] = [];
  const waits: number[] = [];
  const fake: typeof fetch = async (input, options) => {
    asked.push([String(input), new Headers(options?.headers).get('authorization')]);
    const answer = answers[Math.min(asked.length, answers.length) - 1]!;
    if (answer instanceof Error) throw answer;
    return answer.clone();
  };
  const sleep = async (wait: number) => void waits.push(wait);
  return {requests: new Requests(fake, undefined, {idle: 1000, retries: 2, sleep}), asked, waits};
}

const credentials = {Authorization: 'secret'};

test('credentials are for the host of the address, also after redirects there and elsewhere', async () => {
  const {requests, asked} = asking(redirect('/b'), redirect('https://cdn.test/c?sign=1'), new Response('bytes'));
  expect((await requests.text('https://hub.test/a', {credentials})).text).toBe('bytes');
  expect(asked).toEqual([
    ['https://hub.test/a', 'secret'],
    ['https://hub.test/b', 'secret'],
    ['https://cdn.test/c?sign=1', null],
  ]);
});

test.each([
  ['https://hub.test:8443/', null],
  ['https://user@hub.test.evil.test/', null],
  ['https://sub.hub.test/', null],
])('another host: %s', async (location, expected) => {
  const {requests, asked} = asking(redirect(location), new Response(''));
  await requests.text('https://hub.test/a', {credentials});
  expect(asked[1]).toEqual([location, expected]);
});

test.each([
  ['http://hub.test/a?key=1', 'HTTP 302 to http://hub.test.'],
  ['ftp://hub.test/', 'HTTP 302 to ftp://hub.test.'],
  [undefined, 'HTTP 302 to no address.'],
])('no redirect to %s', async (location, message) => {
  const {requests, asked} = asking(redirect(location));
  await expect(requests.text('https://hub.test/a', {credentials})).rejects.toThrow(message);
  expect(asked).toHaveLength(1);
});

test('redirects end', async () => {
  const {requests} = asking(redirect('/again'));
  await expect(requests.text('https://hub.test/a')).rejects.toThrow('Received: more than 10 redirects.');
});

test('what passes is tried again, as the server says, and what stays is reported without the query', async () => {
  const busy = new Response(null, {status: 503, headers: {'retry-after': '7'}});
  const {requests, asked, waits} = asking(busy);
  await expect(requests.text('https://hub.test/a?key=1')).rejects.toThrow(
    'Expected a response from https://hub.test/a. Received: HTTP 503. Try again in 7 s.',
  );
  expect([asked.length, waits]).toEqual([3, [7000, 7000]]);
  const long = asking(new Response(null, {status: 429, headers: {'retry-after': '3600'}}));
  await expect(long.requests.text('https://hub.test/a')).rejects.toThrow('HTTP 429. Try again in 3600 s.');
  expect(long.asked).toHaveLength(1);
  const gone = asking(Object.assign(new TypeError('fetch failed'), {cause: {code: 'ENOTFOUND'}}));
  await expect(gone.requests.text('https://hub.test/a')).rejects.toThrow(Unreachable);
  expect(nameOf('https://user:password@hub.test/a?b#c')).toBe('https://hub.test/a');
});

test('a full disk is noticed before anything is requested', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gemma3-full-'));
  jest.spyOn(store, 'freeBytes').mockResolvedValue(2e9);
  const {requests, asked} = asking(new Response(''));
  const shelf = new FolderShelf(folder, 'model');
  const file = {path: 'model.weights.h5', url: 'https://hub.test/a', size: 5e9, checksum: undefined};
  const download = downloadFiles({name: 'hf://a/b', shelf, root: '', files: [file]}, [file], true, {
    requests,
    signal: undefined,
    onProgress: undefined,
  });
  await expect(download).rejects.toThrow('Expected 5.0 GB of free space for hf://a/b');
  expect(asked).toHaveLength(0);
  rmSync(folder, {recursive: true});
});
