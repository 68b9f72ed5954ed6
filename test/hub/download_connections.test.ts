/** Connections that break, servers without ranges, and bytes that are wrong. */
import {createHash} from 'node:crypto';
import {existsSync, readdirSync} from 'node:fs';
import {join} from 'node:path';
import {hubOf} from '../../src/hub/all';
import {verifyCachedPresets} from '../../src/hub/cache';
import {downloadFiles} from '../../src/hub/download';
import {Requests} from '../../src/hub/requests';
import {openPartial} from '../../src/platform/node/partial_file';
import {SECRET, SIGNATURE} from '../support/hub_server';
import {randomBytes} from '../support/random_bytes';
import {KAGGLE, HF, KAGGLE_FILES, server, kaggleFolder, expectFiles, download} from '../support/hub_downloads';

describe('connections', () => {
  test('a download that was stopped continues where it was', async () => {
    server.pace = 5;
    const stop = new AbortController();
    const first = download(KAGGLE, {
      signal: stop.signal,
      onProgress: ({loaded}) => loaded > 600_000 && stop.abort(new Error('stopped')),
    });
    await expect(first).rejects.toThrow('stopped');
    expect(existsSync(join(kaggleFolder(), '3/model.weights.h5'))).toBe(false);
    server.pace = 0;
    expect(await download(KAGGLE)).toBeLessThan(1_300_000 - 600_000 + 100_000);
    expectFiles(join(kaggleFolder(), '3'), KAGGLE_FILES);
    expect(readdirSync(kaggleFolder()).sort()).toEqual(['.complete', '3', '3.complete']);
  });

  test.each([
    ['right', true],
    ['wrong', true],
    ['right', false],
    ['wrong', false],
  ])('%s bytes of a download that was stopped before it compared them, ranges: %s', async (bytes, ranges) => {
    server.ranges = ranges;
    const requests = new Requests(undefined, undefined);
    const {shelf, files} = await hubOf(KAGGLE)!.find(KAGGLE, {offline: false, requests});
    const file = files!.find(({path}) => path === 'model.weights.h5')!;
    const {path, size, checksum, version} = file;
    const partial = await openPartial(shelf.partial(file), JSON.stringify({path, size, checksum, version}));
    const writer = partial.writer(0);
    await writer.write(bytes === 'right' ? KAGGLE_FILES['model.weights.h5'] : randomBytes(size!, 10));
    await writer.close();
    await partial.close();
    const received = await download(KAGGLE);
    expect(received).toBe(300_034 + (bytes === 'right' ? 0 : size!));
    expectFiles(join(kaggleFolder(), '3'), KAGGLE_FILES);
    expect(await verifyCachedPresets()).toMatchObject([{files: 5, damaged: [], unknown: []}]);
  });

  test.each([['right'], ['wrong']])('%s bytes of which the server has said the checksum before', async bytes => {
    const expected = KAGGLE_FILES['model.weights.h5'];
    const hub = hubOf(KAGGLE)!;
    const {shelf, files} = await hub.find(KAGGLE, {offline: false, requests: new Requests(undefined, undefined)});
    const {path, size, checksum, version} = files!.find(file => file.path === 'model.weights.h5')!;
    const place = shelf.partial({path, size, checksum, url: ''});
    const partial = await openPartial(place, JSON.stringify({path, size, checksum, version}));
    await partial.note(`md5 ${createHash('md5').update(expected).digest('hex')}`);
    const writer = partial.writer(0);
    await writer.write(bytes === 'right' ? expected : randomBytes(size!, 10));
    await writer.close();
    await partial.close();
    const received = await download(KAGGLE);
    expect(received).toBe(300_034 + (bytes === 'right' ? 0 : size!));
    expect(server.downloads.some(asked => asked.path.includes(path))).toBe(bytes === 'wrong');
    expectFiles(join(kaggleFolder(), '3'), KAGGLE_FILES);
  });

  test.each([[true], [false]])('servers without ranges, with lengths: %s', async lengths => {
    server.ranges = false;
    server.lengths = lengths;
    let n = 0;
    server.fault = ({path}) => (path.includes('model.weights.h5') && n++ === 0 ? 'half' : undefined);
    await download(KAGGLE);
    expectFiles(join(kaggleFolder(), '3'), KAGGLE_FILES);
  });

  test('files whose size the hub does not say', async () => {
    const find = hubOf(KAGGLE)!;
    const requests = new Requests(undefined, undefined);
    const model = await find.find(KAGGLE, {offline: false, requests});
    const files = model.files!.map(file => ({...file, size: undefined}));
    await downloadFiles(model, files, true, {requests, signal: undefined, onProgress: undefined, chunk: 100_000});
    expectFiles(join(kaggleFolder(), '3'), KAGGLE_FILES);
  });

  test('wrong bytes are not kept', async () => {
    server.fault = ({host, path}) => (host === 'storage' && path.includes('model.weights.h5') ? 'wrong' : undefined);
    await expect(download(KAGGLE)).rejects.toThrow(
      /Expected model.weights.h5 of .* with md5 [0-9a-f]{32}. Received: [0-9a-f]{32}/,
    );
    expect(existsSync(join(kaggleFolder(), '3/model.weights.h5'))).toBe(false);
    server.fault = () => undefined;
    await download(KAGGLE);
    expectFiles(join(kaggleFolder(), '3'), KAGGLE_FILES);
  });

  test('Retry-After is followed', async () => {
    const waits: number[] = [];
    let n = 0;
    server.fault = ({path}) => (path.includes('config.json') && n++ < 2 ? 429 : undefined);
    const requests = new Requests(undefined, undefined, {
      idle: 300,
      retries: 5,
      sleep: async wait => void waits.push(wait),
    });
    const model = await hubOf(HF)!.find(HF, {offline: false, requests});
    await downloadFiles(model, model.files!.slice(0, 1), false, {requests, signal: undefined, onProgress: undefined});
    expect(waits).toEqual([1000, 1000]);
  });

  test('two downloads at a time share the work', async () => {
    server.pace = 1;
    const waited = jest.fn();
    await Promise.all([download(KAGGLE, {onWait: waited}), download(KAGGLE, {onWait: waited})]);
    expectFiles(join(kaggleFolder(), '3'), KAGGLE_FILES);
    expect(waited).toHaveBeenCalledTimes(1);
    const asked = server.downloads.filter(({host}) => host === 'storage').map(({path, range}) => `${path} ${range}`);
    expect(new Set(asked).size).toBe(asked.length);
  });

  test('an error names no credentials and no signature', async () => {
    server.fault = ({host}) => (host === 'storage' ? 500 : undefined);
    const error = await download(KAGGLE).catch((error: unknown) => error as Error);
    expect(String(error)).toContain(`${server.storage}/blobs/kaggle/`);
    expect(JSON.stringify([String(error), (error as Error).stack])).not.toMatch(new RegExp(`${SECRET}|${SIGNATURE}`));
  });
});
