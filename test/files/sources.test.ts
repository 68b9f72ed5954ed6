/** Sources of presets: servers, browser files, memory and folders. */
import {createServer, type IncomingMessage, type Server, type ServerResponse} from 'node:http';
import {cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync} from 'node:fs';
import {type AddressInfo} from 'node:net';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {pathToFileURL} from 'node:url';
import * as tf from '@tensorflow/tfjs';
import {writeAll} from '../../src/base/byte_sink';
import {MemorySource, readAll} from '../../src/base/byte_source';
import {ValueError} from '../../src/base/errors';
import {folderHandler} from '../../src/checkpoints/tfjs/folder_handler';
import {BlobPreset} from '../../src/files/blob';
import {HttpPreset} from '../../src/files/http';
import {openFileSource, openFileTarget} from '../../src/files/open_file';
import {openTarget} from '../../src/files/open_folder';
import {openPreset} from '../../src/hub/open_preset';
import {readPixels} from '../../src/images/image_like';
import {Gemma3Backbone} from '../../src/models/gemma3/gemma3_backbone';
import {fixture} from '../support/fixtures';
import {expectNoLeak, take} from '../support/numbers';

const FOLDER = fixture('backbone/defaults');
const H5 = 'model.weights.h5';
const bytesOf = (file: string) => new Uint8Array(readFileSync(join(FOLDER, file)));

type Behaviour =
  'ranges' | 'no ranges' | 'no ranges, no length' | 'short' | 'hidden range' | 'broken' | 'huge' | 'no HEAD: 405';

/** A static server that serves the fixture with the given behaviour. */
function serve(behaviour: Behaviour, log: string[]) {
  return (request: IncomingMessage, response: ServerResponse) => {
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    log.push(`${request.method} ${request.url} ${request.headers.range ?? ''}`.trim());
    const refusal = /no HEAD: (\d+)$/.exec(behaviour)?.[1];
    if (refusal && request.method === 'HEAD') return response.writeHead(Number(refusal), {'content-length': 9}).end();
    if (request.url === '/empty') return response.writeHead(range ? 416 : 200).end();
    const path = join(FOLDER, request.url ?? '');
    if (behaviour === 'broken') return response.writeHead(500).end();
    if (!existsSync(path)) return response.writeHead(404).end();
    const whole = readFileSync(path);
    if (behaviour === 'huge') return response.writeHead(200, {'content-length': 2 ** 30}).write(whole);
    if (request.method === 'HEAD') return response.writeHead(200, {'content-length': whole.length}).end();
    if (!range || behaviour.startsWith('no ranges')) {
      const length = behaviour === 'no ranges, no length' ? {} : {'content-length': whole.length};
      response.writeHead(200, length);
      response.write(whole.subarray(0, 10));
      return response.end(whole.subarray(10));
    }
    const [from, to] = [Number(range[1]), Math.min(Number(range[2]), whole.length - 1)];
    const part = whole.subarray(from, behaviour === 'short' ? to : to + 1);
    const shown = behaviour.startsWith('hidden range') ? {} : {'content-range': `bytes ${from}-${to}/${whole.length}`};
    response.writeHead(206, {'content-length': part.length, ...shown});
    return response.end(part);
  };
}

async function withServer(behaviour: Behaviour, run: (address: string, log: string[]) => Promise<void>): Promise<void> {
  const log: string[] = [];
  const server: Server = createServer(serve(behaviour, log));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  try {
    await run(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, log);
  } finally {
    server.closeAllConnections();
    await new Promise(resolve => server.close(resolve));
  }
}

/** Loads the fixture and expects the values that KerasHub computes. */
async function expectModel(preset: Parameters<typeof Gemma3Backbone.fromPreset>[0]): Promise<void> {
  const expected = JSON.parse(readFileSync(join(FOLDER, 'expected.json'), 'utf8')) as {
    [key in 'token_ids' | 'padding_mask' | 'hidden']: number[];
  } & {batch: number; length: number};
  await expectNoLeak(async () => {
    const backbone = await Gemma3Backbone.fromPreset(preset);
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

describe('HttpPreset', () => {
  test.each<Behaviour>(['ranges', 'no ranges', 'no ranges, no length', 'hidden range', 'no HEAD: 405'])(
    'loads a model from a server: %s',
    async behaviour => {
      await withServer(behaviour, async address => {
        await expectModel(address);
        await expectModel(`${address}/`);
      });
    },
  );

  test('one request says whether a file is there, its size, and its bytes if it is small', async () => {
    await withServer('ranges', async (address, log) => {
      const preset = new HttpPreset(address);
      expect([await preset.has(H5), await preset.has('nope'), await preset.has('empty')]).toEqual([true, false, true]);
      const file = await preset.open(H5);
      expect([file.name, file.size]).toEqual([`${address}/${H5}`, bytesOf(H5).length]);
      const target = new Uint8Array(7);
      await file.readInto(100, target);
      expect(target).toEqual(bytesOf(H5).subarray(100, 107));
      await file.close();
      expect(log).toEqual([H5, 'nope', 'empty'].map(path => `GET /${path} bytes=0-262143`));
    });
  });

  test('refuses large files of a server without range requests', async () => {
    await withServer('huge', async address => {
      const file = await new HttpPreset(address).open(H5);
      await expect(file.readInto(2 ** 20, new Uint8Array(8))).rejects.toThrow(
        `Expected a server that answers range requests for ${address}/${H5}, which has more than 64 MB. Received: HTTP 200`,
      );
    });
  });

  test('reports files that are missing, broken or too short', async () => {
    await withServer('ranges', async address => {
      const preset = new HttpPreset(address);
      expect([await preset.has(H5), await preset.has('nope')]).toEqual([true, false]);
      await expect(preset.open('nope')).rejects.toThrow(ValueError);
      await expect(preset.open('nope')).rejects.toThrow(
        `Expected a preset at ${address} with file "nope". Received: HTTP 404.`,
      );
    });
    await withServer('broken', async address => {
      await expect(Gemma3Backbone.fromPreset(address)).rejects.toThrow(/from http\S+\/\S+\. Received: HTTP 500\./);
    });
    await withServer('short', async address => {
      const size = bytesOf(H5).length;
      await expect(new HttpPreset(address).open(H5)).rejects.toThrow(
        `Expected ${size} bytes of ${address}/${H5} from 0. Received: ${size - 1}. The connection ended early.`,
      );
    });
  });
});

describe('BlobPreset', () => {
  const files = {'config.json': new Blob([bytesOf('config.json')]), [H5]: new Blob([bytesOf(H5)])};

  test('loads a model', async () => {
    await expectModel(new BlobPreset(files));
  });

  test('reports missing files', async () => {
    const preset = new BlobPreset(files, 'mine');
    expect([preset.name, await preset.has(H5), await preset.has('toString')]).toEqual(['mine', true, false]);
    await expect(preset.open('nope')).rejects.toThrow(
      'Expected file "nope" in the preset. Received: config.json, model.weights.h5.',
    );
    const file = await preset.open(H5);
    await expect(file.readInto(file.size - 1, new Uint8Array(2))).rejects.toThrow('is truncated: expected at least');
    const cut = new BlobPreset({...files, [H5]: new Blob([bytesOf(H5).subarray(0, 5000)])});
    await expectNoLeak(async () => {
      await expect(Gemma3Backbone.fromPreset(cut)).rejects.toThrow(H5);
    });
  });
});

describe('BlobPreset of a list', () => {
  const file = (path: string, content: BlobPart = '') => {
    const made = new File([content], path.slice(path.lastIndexOf('/') + 1));
    // What a browser sets for a folder that was chosen.
    if (path.includes('/')) Object.defineProperty(made, 'webkitRelativePath', {value: path});
    return made;
  };
  const has = (preset: BlobPreset, ...paths: string[]) => Promise.all(paths.map(path => preset.has(path)));
  const VOCABULARY = 'assets/tokenizer/vocabulary.spm';

  test('loads a model from a chosen folder, which is no part of the paths', async () => {
    const chosen = ['config.json', H5].map(name => file(`mine/${name}`, bytesOf(name)));
    const preset = new BlobPreset([...chosen, file(`mine/${VOCABULARY}`)]);
    expect(preset.name).toBe('mine');
    expect(await has(preset, VOCABULARY, 'mine/config.json')).toEqual([true, false]);
    await expectModel(preset);
    await expectModel(new BlobPreset(new Set(chosen)));
  });

  test('strips all folders that all files are in, but not those of a preset', async () => {
    const preset = new BlobPreset([file('models/mine/config.json'), file(`models/mine/${VOCABULARY}`)]);
    expect(await has(preset, 'config.json', VOCABULARY)).toEqual([true, true]);
    expect(await has(new BlobPreset([file(`mine/${VOCABULARY}`)]), VOCABULARY)).toEqual([true]);
    const several = new BlobPreset([file('models/a/config.json'), file('models/b/config.json')]);
    expect(await has(several, 'a/config.json', 'config.json')).toEqual([true, false]);
  });

  test('finds files that were chosen without their folder by their names', async () => {
    const preset = new BlobPreset([file('config.json'), file('vocabulary.spm', 'v')]);
    expect(await has(preset, 'config.json', VOCABULARY, 'task.json')).toEqual([true, true, false]);
    expect(await readAll(preset, VOCABULARY)).toEqual(new TextEncoder().encode('v'));
  });

  test.each<[string, unknown, string]>([
    ['nothing', [], 'none: no file was chosen'],
    ['null', null, 'null'],
    ['one file', file('config.json'), 'File'],
    ['a text', 'x', '"x"'],
    ['a Blob without a name', [new Blob([])], 'Blob without a name in a list'],
    ['numbers', [3], '3 without a name in a list'],
    ['other values', {'config.json': 'text'}, '"text" as "config.json"'],
    ['one path twice', [file('a/x.json'), file('a/x.json')], 'two files with the path "x.json"'],
  ])('refuses %s', (_, files, received) => {
    expect(() => new BlobPreset(files as File[])).toThrow(ValueError);
    expect(() => new BlobPreset(files as File[])).toThrow(`Received: ${received}.`);
  });
});

describe('file addresses', () => {
  let folder: string;
  beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'an address '))));
  afterAll(() => rmSync(folder, {recursive: true}));

  test('are read and written wherever paths are', async () => {
    for (const [i, form] of [(url: URL) => url.href, (url: URL) => url].entries()) {
      const at = (name: string) => form(pathToFileURL(join(folder, name)));
      expect(String(at('x'))).toContain('an%20address%20');
      const sink = await openFileTarget(at(`file ${i}`));
      await sink.write(Uint8Array.of(1, 2));
      await sink.close();
      const source = await openFileSource(at(`file ${i}`));
      expect([source.size, source.name]).toEqual([2, join(folder, `file ${i}`)]);
      await source.close();
      const target = await openTarget(at(`folder ${i}`));
      await writeAll(target, 'config.json', Uint8Array.of(3));
      await target.commit(() => false);
      expect((await openPreset(at(`folder ${i}`))).name).toBe(join(folder, `folder ${i}`));
      await expect(folderHandler(at(`none ${i}`)).load!()).rejects.toThrow(ValueError);
    }
    expect(readdirSync(folder).sort()).toEqual(['file 0', 'file 1', 'folder 0', 'folder 1']);
  });

  test.each(['file:x.h5', 'file://server/x.h5', 'file:///a%2Fb.h5'])('%s is refused', async address => {
    for (const open of [openFileTarget, openFileSource, openTarget, openPreset, readPixels]) {
      await expect(open(address)).rejects.toThrow(ValueError);
      await expect(open(address)).rejects.toThrow(`Received: "${address}", which is not the address of a file on`);
    }
  });

  test.each(['https://example.org/x.lora.h5', 'hf://a/b', 'data:,x'])('%s cannot be written', async address => {
    for (const open of [openFileTarget, openTarget]) {
      await expect(open(address)).rejects.toThrow(ValueError);
      await expect(open(address)).rejects.toThrow(`Received: "${address}", an address, which cannot be written to.`);
    }
  });
});

describe('MemorySource', () => {
  test('refuses reads outside its bytes', async () => {
    const source = new MemorySource('m', Uint8Array.of(1, 2, 3));
    const target = new Uint8Array(2);
    await source.readInto(1, target);
    expect([...target]).toEqual([2, 3]);
    for (const offset of [-1, 2, 9]) {
      await expect(source.readInto(offset, target)).rejects.toThrow('"m" is truncated: expected at least');
    }
  });
});

describe('openPreset', () => {
  test('opens folders by absolute and relative paths', async () => {
    await expectModel(FOLDER);
    const preset = await openPreset('./test/fixtures/backbone/defaults');
    expect(JSON.parse(new TextDecoder().decode(await readAll(preset, 'config.json')))).toMatchObject({
      class_name: 'Gemma3Backbone',
    });
    expect([await preset.has(H5), await preset.has('assets')]).toEqual([true, false]);
    await expect(preset.open('nope')).rejects.toThrow(`Expected file "nope" in preset folder "${preset.name}".`);
  });

  test('reports the end of a file on disk', async () => {
    const copy = mkdtempSync(join(tmpdir(), 'preset-'));
    cpSync(join(FOLDER, 'config.json'), join(copy, 'config.json'));
    const file = await (await openPreset(copy)).open('config.json');
    await expect(file.readInto(file.size - 2, new Uint8Array(3))).rejects.toThrow('is truncated: expected at least');
    await file.close();
    rmSync(copy, {recursive: true});
  });

  test.each([
    [join(FOLDER, H5), "Expected the path of a preset's folder, or of a .gguf or .keras file. Received: "],
    ['kaggle://keras/gemma3', 'Expected kaggle://owner/model/framework/variation, perhaps with /version'],
    ['hf://google', 'Expected hf://owner/name of a model, perhaps with @revision'],
    ['gs://bucket/gemma3', 'Models at gs:// cannot be downloaded: pass the path of their folder.'],
    ['google/gemma-3-1b', 'which is none of these. For a model of Hugging Face, write "hf://google/gemma-3-1b".'],
    ['gemma3_2b', 'Received: "gemma3_2b", which is none of these.'],
    ['toString', 'Received: "toString", which is none of these.'],
    ['/no/such/folder', 'Received: "/no/such/folder", which is none of these.'],
    ['', 'Expected a preset: a folder, a .gguf or .keras file, an address or a name. Received: "".'],
    [undefined, 'Received: undefined.'],
    [7, 'Received: 7.'],
    [null, 'Received: null.'],
  ])('refuses %j', async (preset, message) => {
    await expect(openPreset(preset as string)).rejects.toThrow(ValueError);
    await expect(openPreset(preset as string)).rejects.toThrow(message);
  });
});

test('names of object properties are not presets', async () => {
  await expect(Gemma3Backbone.fromPreset('toString', {loadWeights: false})).rejects.toThrow(
    'Received: "toString", which is none of these.',
  );
});

test('names an address that does not answer', async () => {
  const gone = new HttpPreset('http://127.0.0.1:9/x');
  await expect(readAll(gone, 'config.json')).rejects.toThrow(
    /response from http:\/\/127.0.0.1:9\/x\/config.json. Received: /,
  );
});

test.each<[unknown, RegExp]>([
  [{}, /Expected a preset: a folder, a .gguf or .keras file, an address or a name. Received: \{\}/],
  ['google/gemma-3-1b-it', /which is none of these. For a model of Hugging Face, write/],
])('refuses %p', async (preset, message) => {
  await expect(openPreset(preset as string)).rejects.toThrow(message);
});
