/** Presets and files on servers that behave in different ways. */
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {convertPreset} from '../../converters/convert_preset';
import {announceReads, type ByteSource} from '../../src/base/byte_source';
import {ValueError} from '../../src/base/errors';
import {fetchFile, HttpPreset, openHttpFile} from '../../src/files/http';
import {relativeAddress} from '../../src/files/http_address';
import {type FetchOptions} from '../../src/files/http_client';
import {MemoryPreset} from '../../src/files/memory';
import {fileName, openFileSource} from '../../src/files/open_file';
import {openCheckpoint} from '../../src/checkpoints/open_checkpoint';
import {openPreset} from '../../src/hub/open_preset';
import {Backbone} from '../../src/models/backbone';
import {Gemma3Backbone, type Gemma3BackboneOptions} from '../../src/models/gemma3/gemma3_backbone';
import {Gemma3CausalLM} from '../../src/models/gemma3/gemma3_causal_lm';
import {Gemma3CausalLMPreprocessor} from '../../src/models/gemma3/gemma3_causal_lm_preprocessor';
import {Gemma3ImageConverter} from '../../src/models/gemma3/gemma3_image_converter';
import {Gemma3Tokenizer} from '../../src/models/gemma3/gemma3_tokenizer';
import {Tokenizer} from '../../src/models/tokenizer';
import {fetchOfOtherOrigin, HABITS, type Habits, withFiles} from '../support/file_server';
import {fixture} from '../support/fixtures';
import {expectNoLeak, take} from '../support/numbers';

const FOLDER = fixture('backbone/defaults');
const MIB = 2 ** 20;

/** Bytes that differ from place to place. */
const pattern = (size: number) => Uint8Array.from({length: size}, (_, i) => (i * 31 + (i >> 8) * 7) % 251);
const BIG = pattern(20 * MIB);

/** Loads the fixture and expects the values that KerasHub computes. */
async function expectModel(preset: string, options: Gemma3BackboneOptions = {}): Promise<void> {
  const expected = JSON.parse(readFileSync(join(FOLDER, 'expected.json'), 'utf8')) as {
    [key in 'token_ids' | 'padding_mask' | 'hidden']: number[];
  } & {batch: number; length: number};
  await expectNoLeak(async () => {
    const backbone = await Gemma3Backbone.fromPreset(preset, options);
    const shape: [number, number] = [expected.batch, expected.length];
    const inputs = {
      token_ids: tf.tensor2d(expected.token_ids, shape, 'int32'),
      padding_mask: tf.tensor2d(expected.padding_mask, shape, 'int32'),
    };
    expect(await take(backbone.predict(inputs) as tf.Tensor)).toBeAllClose(expected.hidden, {atol: 1e-4});
    tf.dispose(inputs);
    backbone.dispose();
  });
}

async function expectBytes(file: ByteSource, start: number, length: number): Promise<void> {
  const target = new Uint8Array(length);
  await file.readInto(start, target);
  expect(Buffer.compare(target, BIG.subarray(start, start + length))).toBe(0);
}

test.each(HABITS)('a model loads: %s', async (_, habits, ending) => {
  await withFiles(FOLDER, habits, async ({address, log}) => {
    await expectModel(address + ending);
    expect(log.filter(line => line.startsWith('HEAD'))).toEqual([]);
  });
});

describe('a large file', () => {
  const files = {big: BIG};

  test.each<[string, Habits, typeof fetch]>([
    ['same origin', {}, fetch],
    ['another origin', {}, fetchOfOtherOrigin],
    ['another origin, compressed', {gzip: /./}, fetchOfOtherOrigin],
    ['every fourth request cut in the middle', {fault: n => (n % 4 === 0 ? 'half' : undefined)}, fetch],
  ])('has the right size and bytes: %s', async (_, habits, fetchIt) => {
    await withFiles(files, habits, async ({address}) => {
      const file = await new HttpPreset(address, {fetch: fetchIt}).open('big');
      expect(file.size).toBe(BIG.length);
      for (const [offset, length] of [
        [0, 7],
        [262_140, 10],
        [BIG.length - 5, 5],
        [MIB, 3 * MIB],
      ] as const) {
        const target = new Uint8Array(length);
        await file.readInto(offset, target);
        expect(Buffer.compare(target, BIG.subarray(offset, offset + length))).toBe(0);
      }
      await expect(file.readInto(BIG.length - 1, new Uint8Array(2))).rejects.toThrow('is truncated');
      await file.close();
    });
  });

  test('fetches what is announced in few requests, several at a time, and no more than is read', async () => {
    let now = 0;
    let most = 0;
    const counted: typeof fetch = async (...args) => {
      most = Math.max(most, ++now);
      await new Promise(resolve => setTimeout(resolve, 20));
      const answer = await fetch(...args);
      now--;
      return answer;
    };
    await withFiles(files, {}, async ({address, log}) => {
      const file = await new HttpPreset(address, {fetch: counted}).open('big');
      const size = 100_000;
      const places = Array.from({length: 150}, (_, i) => {
        const start = MIB + i * size + (i >= 75 ? 2 * MIB : 0);
        return {source: file, start, end: start + size};
      });
      announceReads(places);
      for (const {start} of places) {
        for (const from of [start, start + size / 2]) {
          const target = new Uint8Array(size / 2);
          await file.readInto(from, target);
          expect(Buffer.compare(target, BIG.subarray(from, from + size / 2))).toBe(0);
        }
      }
      // One for the size; two runs of 7.5 MB in pieces of 4 MiB.
      expect(log).toHaveLength(5);
      expect(most).toBeGreaterThan(1);
      await file.close();
    });
  });

  test('bytes in another order than announced, and skipped ones, are right', async () => {
    await withFiles(files, {}, async ({address}) => {
      const file = await new HttpPreset(address).open('big');
      const starts = [5, 9, 13, 7, 11].map(at => at * MIB);
      file.readAhead!([...starts].sort((a, b) => a - b).map(start => ({start, end: start + MIB})));
      for (const start of [...starts, 6 * MIB, 17 * MIB]) {
        const target = new Uint8Array(1.5 * MIB);
        await file.readInto(start, target);
        expect(Buffer.compare(target, BIG.subarray(start, start + target.length))).toBe(0);
      }
      await file.close();
    });
  });

  test('is read with one more request, whichever part is needed, if it is not so large', async () => {
    await withFiles({some: BIG.subarray(0, 8 * MIB)}, {}, async ({address, log}) => {
      const file = await new HttpPreset(address).open('some');
      for (const start of [5, 1, 7, 3].map(at => at * MIB)) await expectBytes(file, start, 1000);
      expect(log).toHaveLength(2);
    });
  });

  describe('from a server without range requests', () => {
    const places = [0, 1, 2, 5, 6, 7, 11, 19].map(at => ({start: at * MIB, end: (at + 1) * MIB}));

    test.each<[string, Habits]>([
      ['plain', {ranges: false}],
      ['compressed', {ranges: false, gzip: /./}],
      ['without lengths', {ranges: false, noLength: true}],
    ])('comes once when it is read in order: %s', async (_, habits) => {
      await withFiles(files, habits, async ({address, log}) => {
        const file = new HttpPreset(address).openSized('big', BIG.length);
        file.readAhead!(places);
        for (const {start} of places) await expectBytes(file, start, MIB);
        expect(log).toHaveLength(1);
        await file.close();
      });
    });

    test('comes again after a lost connection, and once more for reads in any order', async () => {
      const fault = (n: number) => (n === 1 || n === 2 ? ('half' as const) : undefined);
      await withFiles(files, {ranges: false, fault}, async ({address, log}) => {
        const file = new HttpPreset(address).openSized('big', BIG.length);
        file.readAhead!(places);
        for (const {start} of places) await expectBytes(file, start, MIB);
        expect(log).toHaveLength(3);
        for (const start of [9, 3, 12]) await expectBytes(file, start * MIB, 100);
        expect(log).toHaveLength(4);
        await file.close();
      });
    });

    test('comes twice, however large, for a few reads before all others', async () => {
      const large = new Uint8Array(65 * MIB);
      large.set(BIG, 0);
      await withFiles({large}, {ranges: false}, async ({address, log}) => {
        const file = new HttpPreset(address).openSized('large', large.length);
        const few = [1, 6, 19].map(at => ({start: at * MIB, end: at * MIB + 1000}));
        file.readAhead!(few);
        for (const {start} of few) await expectBytes(file, start, 1000);
        file.readAhead!([{start: 0, end: large.length}]);
        for (let at = 0; at < 20; at++) await expectBytes(file, at * MIB, MIB);
        expect(log).toHaveLength(2);
        await file.close();
      });
    });

    test('is opened without its bytes', async () => {
      await withFiles(files, {ranges: false}, async ({address, log}) => {
        const file = await new HttpPreset(address).open('big');
        expect(file.size).toBe(BIG.length);
        for (const start of [9, 3, 12]) await expectBytes(file, start * MIB, 100);
        expect(log).toHaveLength(2);
      });
    });
  });

  test.each<[string, Habits, number, string]>([
    ['another size', {}, BIG.length - 1, `Received: HTTP 206 with ${BIG.length} bytes`],
    ['a smaller size, no ranges', {ranges: false}, BIG.length - 1, 'Received: more.'],
    ['a larger size, no ranges', {ranges: false, noLength: true}, BIG.length + 1, `Received: ${BIG.length}.`],
    ['a page', {page: true}, 100_000, 'Received: a web page with HTTP 206'],
    ['a page, no ranges', {page: true, ranges: false}, 100_000, 'Received: a web page with HTTP 200'],
    ['nothing', {}, 100_000, 'Received: HTTP 404'],
  ])('that is not what was expected: %s', async (what, habits, size, message) => {
    await withFiles(files, {...habits, retryAfter: 0}, async ({address}) => {
      const file = new HttpPreset(address).openSized(/page|nothing/.test(what) ? 'missing' : 'big', size);
      file.readAhead!([{start: 0, end: size}]);
      const reading = file.readInto(0, new Uint8Array(size));
      await expect(reading).rejects.toThrow(message);
      await expect(reading).rejects.toThrow(address);
      await file.close();
    });
  });

  test('a closed file stops its requests', async () => {
    await withFiles(files, {delay: 20}, async ({address, log}) => {
      const file = await new HttpPreset(address).open('big');
      file.readAhead!([{start: MIB, end: 20 * MIB}]);
      await file.close();
      await new Promise(resolve => setTimeout(resolve, 60));
      expect(log.length).toBeLessThanOrEqual(7);
    });
  });

  test('a file that changes is not mixed from two versions', async () => {
    await withFiles(files, {etag: n => (n < 3 ? '"1"' : '"2"')}, async ({address}) => {
      const file = await openHttpFile(`${address}/big`);
      await file.readInto(2 * MIB, new Uint8Array(10));
      await expect(file.readInto(3 * MIB, new Uint8Array(10))).rejects.toThrow(
        `Expected ${address}/big as it was when it was opened. Received: HTTP 206 with another version of it.`,
      );
    });
  });

  test('a signal stops reading', async () => {
    const controller = new AbortController();
    await withFiles(files, {fault: n => (n > 1 ? 503 : undefined), retryAfter: 30}, async ({address}) => {
      const file = await new HttpPreset(address, {signal: controller.signal}).open('big');
      const reading = file.readInto(MIB, new Uint8Array(10));
      setTimeout(() => controller.abort(new Error('enough')), 20);
      await expect(reading).rejects.toThrow('enough');
    });
  });
});

describe('a server that sends half of an answer and then nothing', () => {
  test.each<[string, Habits]>([
    ['ranges', {}],
    ['no ranges', {ranges: false}],
  ])('does not keep a reader that gives up: %s', async (_, habits) => {
    const files = {big: BIG};
    // The first answer is for opening.
    await withFiles(files, {...habits, fault: n => (n > 1 ? 'stall' : undefined)}, async ({address, log}) => {
      const controller = new AbortController();
      const file = await new HttpPreset(address, {signal: controller.signal}).open('big');
      file.readAhead!([{start: MIB, end: 20 * MIB}]);
      const ahead = file.readInto(MIB, new Uint8Array(3 * MIB));
      const reading = file.readInto(300_000, new Uint8Array(10_000));
      while (log.length < 2) await new Promise(resolve => setTimeout(resolve, 5));
      setTimeout(() => controller.abort(new Error('enough')), 50);
      const results = await Promise.allSettled([ahead, reading]);
      const reasons = results.map(result => (result.status === 'rejected' ? (result.reason as Error).message : ''));
      expect(reasons.filter(Boolean)).toContain('enough');
      expect(reasons.filter(Boolean).every(reason => reason === 'enough')).toBe(true);
      await file.close();
    });
  });

  test('does not keep a reader of a small file, or of one at an address', async () => {
    await withFiles({small: BIG.subarray(0, 1000)}, {fault: () => 'stall'}, async ({address}) => {
      const signal = AbortSignal.timeout(100);
      await expect(new HttpPreset(address, {signal}).open('small')).rejects.toThrow(/timeout/);
      await expect(fetchFile(`${address}/small`, {signal: AbortSignal.timeout(100)})).rejects.toThrow(/timeout/);
    });
  });
});

describe('errors', () => {
  test.each<[string, Habits, string, string]>([
    ['missing', {}, 'nope', 'with file "nope". Received: HTTP 404.'],
    ['a page', {page: true}, 'nope', 'with file "nope". Received: a web page with HTTP 206.'],
    ['forbidden', {token: 'x'}, 'config.json', 'with file "config.json". Received: HTTP 403.'],
    ['unauthorized', {authorization: 'x'}, 'config.json', 'with file "config.json". Received: HTTP 401.'],
  ])('%s', async (_, habits, path, message) => {
    await withFiles(FOLDER, habits, async ({address, log}) => {
      const opening = new HttpPreset(address).open(path);
      await expect(opening).rejects.toThrow(ValueError);
      await expect(opening).rejects.toThrow(`Expected a preset at ${address} ${message}`);
      expect(log).toHaveLength(1);
    });
  });

  test('what a server cannot answer now is asked four times', async () => {
    await withFiles(FOLDER, {fault: () => 503, retryAfter: 0}, async ({address, log}) => {
      await expect(new HttpPreset(address).has('config.json')).rejects.toThrow(
        `Expected a response from ${address}/config.json. Received: HTTP 503. Try again later.`,
      );
      expect(log).toHaveLength(4);
    });
    await withFiles(FOLDER, {fault: () => 429, retryAfter: 3600}, async ({address, log}) => {
      await expect(new HttpPreset(address).has('config.json')).rejects.toThrow('Received: HTTP 429.');
      expect(log).toHaveLength(1);
    });
  });

  test('do not show the query', async () => {
    await withFiles(FOLDER, {token: 'secret'}, async ({address}) => {
      const error = await new HttpPreset(`${address}?token=secret`).open('nope').catch((caught: Error) => caught);
      expect((error as Error).message).not.toContain('secret');
    });
  });

  test.each([
    [() => new HttpPreset('/x?token=1'), 'Expected a whole address, such as https://example.org/x. Received: "/x".'],
    [() => new HttpPreset('http://x', {fetch: 1 as never}), 'Expected fetch to be a function. Received: number.'],
    [() => new HttpPreset('http://x', {headers: {'a b': 'c'}}), 'Expected headers that can be sent.'],
  ])('unusable arguments', (make, message) => {
    expect(make).toThrow(ValueError);
    expect(make).toThrow(message);
  });
});

test('a file below an address with a query', async () => {
  await withFiles({'x.lora.h5': pattern(10)}, {token: 'abc'}, async ({address}) => {
    const place = `${address}/x.lora.h5?token=abc#main`;
    expect(fileName(place)).toBe(`${address}/x.lora.h5`);
    expect(fileName(new URL(place))).toBe(`${address}/x.lora.h5`);
    const file = await openFileSource(place);
    expect([file.name, file.size]).toEqual([`${address}/x.lora.h5`, 10]);
  });
});

test('addresses relative to a page', () => {
  const page = 'https://example.org/app/index.html?x#y';
  expect(relativeAddress('/presets/tiny', page)).toBe('https://example.org/presets/tiny');
  expect(relativeAddress('./tiny', page)).toBe('https://example.org/app/tiny');
  expect(relativeAddress('../tiny?v=1', page)).toBe('https://example.org/tiny?v=1');
  for (const base of ['about:blank', 'blob:https://example.org/1', undefined]) {
    expect(() => relativeAddress('/tiny', base)).toThrow('Expected a whole address, which begins with https://');
  }
});

test('shards of the tfjs format load from a server with a page for what is missing', async () => {
  const preset = new MemoryPreset();
  await convertPreset(FOLDER, preset, {to: 'tfjs', dtype: 'float32', shardSize: 2000});
  const shards = [...preset.files.keys()].filter(path => path.endsWith('.bin')).length;
  expect(shards).toBeGreaterThan(3);
  for (const habits of [{}, {ranges: false}, {ranges: false, gzip: /./}]) {
    await withFiles(Object.fromEntries(preset.files), {page: true, ...habits}, async ({address, log}) => {
      await expectModel(address);
      expect(log.filter(line => line.includes('.bin'))).toHaveLength(shards);
    });
  }
});

describe('headers and fetch', () => {
  const preset = 'presets/gemma3_tiny';

  test('reach every request of every class', async () => {
    await withFiles(preset, {authorization: 'Bearer abc'}, async ({address}) => {
      const options = {headers: {authorization: 'Bearer abc'}};
      await expect(Gemma3Tokenizer.fromPreset(address)).rejects.toThrow('Received: HTTP 401.');
      const tokenizer = await Gemma3Tokenizer.fromPreset(address, options);
      expect((await Tokenizer.fromPreset(address, options)).vocabularySize).toBe(tokenizer.vocabularySize);
      const {sequenceLength} = await Gemma3CausalLMPreprocessor.fromPreset(address, options);
      expect(sequenceLength).toBeGreaterThan(0);
      for (const cls of [Gemma3CausalLM, Backbone]) {
        (await cls.fromPreset(address, {...options, loadWeights: false})).dispose();
      }
      const source = await openPreset(address, options);
      (await Gemma3Backbone.fromPreset(source, {loadWeights: false})).dispose();
    });
    await withFiles(FOLDER, {authorization: 'Bearer abc'}, async ({address}) => {
      await expectModel(address, {headers: {authorization: 'Bearer abc'}});
    });
  });

  test('reach files outside of presets, and images, which are requested again when lost', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'http-'));
    const backbone = await Gemma3Backbone.fromPreset(preset);
    backbone.enableLora(2);
    await backbone.saveLoraWeights(join(folder, 'x.lora.h5'));
    await backbone.exportPeftAdapter(join(folder, 'peft'));
    await backbone.saveWeights(join(folder, 'x.weights.h5'), {dtype: 'float32'});
    writeFileSync(join(folder, 'vocabulary.spm'), readFileSync(join(preset, 'assets/tokenizer/vocabulary.spm')));
    writeFileSync(join(folder, 'x.png'), readFileSync('test/fixtures/tiny_preset/pictures/blue_square.png'));
    const options = {headers: {authorization: 'Bearer abc'}};
    const tokenizer = await Gemma3Tokenizer.fromPreset(preset);
    const converter = new Gemma3ImageConverter();
    const fault = (n: number) => (n % 4 === 0 ? 'cut' : undefined);
    await withFiles(folder, {authorization: 'Bearer abc', fault}, async ({address}) => {
      const calls: ((given?: FetchOptions) => Promise<unknown>)[] = [
        given => backbone.loadLoraWeights(`${address}/x.lora.h5?v=1`, given),
        given => backbone.importPeftAdapter(`${address}/peft`, given),
        given => backbone.loadWeights(`${address}/x.weights.h5`, given),
        given => tokenizer.loadAssets(address, given),
        async given => tf.dispose(await converter.call({url: `${address}/x.png?v=1`, ...given})),
      ];
      for (const call of calls) {
        const refused = call();
        await expect(refused).rejects.toThrow('Received: HTTP 401.');
        await expect(refused).rejects.toThrow(address);
        await call(options);
        await expect(call({...options, other: 1} as FetchOptions)).rejects.toThrow('other');
      }
      const message = 'Expected headers only with the http(s) address';
      await expect(backbone.loadLoraWeights(join(folder, 'x.lora.h5'), options)).rejects.toThrow(message);
      await expect(backbone.loadWeights(join(folder, 'x.weights.h5'), options)).rejects.toThrow(message);
      await expect(tokenizer.loadAssets(folder, options)).rejects.toThrow(message);
    });
    await withFiles({}, {page: true}, async ({address}) => {
      await expect(converter.call(`${address}/x.png?token=1`)).rejects.toThrow(
        `Expected an image at "${address}/x.png". Received: a web page with HTTP 200. Check the address.`,
      );
      await expect(converter.call({url: 'x.png'})).rejects.toThrow('Expected the http(s) address of an image as url.');
    });
    backbone.dispose();
    rmSync(folder, {recursive: true});
  });

  test('replace the fetch of the platform', async () => {
    await withFiles(FOLDER, {}, async ({address, log}) => {
      const asked: string[] = [];
      const fetchIt: typeof fetch = (input, init) => {
        asked.push(String(input));
        return fetch(String(input).replace('http://preset.invalid', address), init);
      };
      (await Gemma3Backbone.fromPreset('http://preset.invalid', {fetch: fetchIt})).dispose();
      expect(asked).toHaveLength(log.length);
    });
  });

  test('are refused where no requests are made', async () => {
    const message = 'Expected headers only with the http(s) address of a preset.';
    const options = {headers: {a: 'b'}};
    const checkpoint = await openCheckpoint(preset);
    for (const source of [preset, 'gemma3_tiny', await openPreset(preset), checkpoint]) {
      await expect(Gemma3Tokenizer.fromPreset(source, options)).rejects.toThrow(message);
    }
    await checkpoint.close();
  });
});
