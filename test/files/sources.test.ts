/** Sources of presets: servers, browser files, memory and folders. */
import {createServer, type IncomingMessage, type Server, type ServerResponse} from 'node:http';
import {cpSync, existsSync, mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {type AddressInfo} from 'node:net';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {MemorySource, readAll} from '../../src/base/byte_source';
import {ValueError} from '../../src/base/errors';
import {BlobPreset} from '../../src/files/blob';
import {HttpPreset} from '../../src/files/http';
import {openPreset} from '../../src/hub/open_preset';
import {Gemma3Backbone} from '../../src/models/gemma3/gemma3_backbone';
import {fixture} from '../support/fixtures';
import {expectNoLeak, take} from '../support/numbers';

const FOLDER = fixture('backbone/defaults');
const H5 = 'model.weights.h5';
const bytesOf = (file: string) => new Uint8Array(readFileSync(join(FOLDER, file)));

type Behaviour =
  | 'ranges'
  | 'no ranges'
  | 'no ranges, no length'
  | 'short'
  | 'hidden range'
  | 'broken'
  | 'huge'
  | 'no HEAD: 405'
  | 'no HEAD: 501'
  | 'hidden range, no HEAD: 405';

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
    const [from, to] = [Number(range[1]), Number(range[2])];
    const part = whole.subarray(from, behaviour === 'short' && to > 0 ? to : to + 1);
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

  test('reads only the requested bytes', async () => {
    await withServer('ranges', async (address, log) => {
      const file = await new HttpPreset(address).open(H5);
      expect([file.name, file.size]).toEqual([`${address}/${H5}`, bytesOf(H5).length]);
      const target = new Uint8Array(7);
      await file.readInto(100, target);
      expect(target).toEqual(bytesOf(H5).subarray(100, 107));
      await file.readInto(5, new Uint8Array(0));
      await file.close();
      expect(log).toEqual([`GET /${H5} bytes=0-0`, `GET /${H5} bytes=100-106`]);
    });
  });

  test('gets the size of a file from a server that hides the range', async () => {
    await withServer('hidden range', async (address, log) => {
      const file = await new HttpPreset(address).open(H5);
      expect(file.size).toBe(bytesOf(H5).length);
      expect(log).toEqual([`GET /${H5} bytes=0-0`, `HEAD /${H5}`]);
    });
  });

  test.each<Behaviour>(['no HEAD: 405', 'no HEAD: 501'])('falls back to GET: %s', async behaviour => {
    await withServer(behaviour, async (address, log) => {
      const preset = new HttpPreset(address);
      expect([await preset.has(H5), await preset.has('nope'), await preset.has('empty')]).toEqual([true, false, true]);
      expect(log.slice(0, 2)).toEqual([`HEAD /${H5}`, `GET /${H5} bytes=0-0`]);
    });
  });

  test('does not use the length of an error page as the size of a file', async () => {
    await withServer('hidden range, no HEAD: 405', async address => {
      await expect(new HttpPreset(address).open(H5)).rejects.toThrow(
        `Expected the size of ${address}/${H5} from its server. Received: none. Let it answer HEAD requests`,
      );
    });
  });

  test('refuses large files of a server without range requests', async () => {
    await withServer('huge', async address => {
      await expect(new HttpPreset(address).open(H5)).rejects.toThrow(
        `Expected a server that answers range requests for ${address}/${H5}. Received: HTTP 200.`,
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
      await expect(Gemma3Backbone.fromPreset(address)).rejects.toThrow('with file "config.json". Received: HTTP 500.');
    });
    await withServer('short', async address => {
      const file = await new HttpPreset(address).open(H5);
      await expect(file.readInto(0, new Uint8Array(10))).rejects.toThrow(
        `Expected 10 bytes of ${address}/${H5} from 0. Received: 9. The connection ended early.`,
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
    [join(FOLDER, H5), "Expected the path of a preset's folder. Received: "],
    ['kaggle://keras/gemma3/keras/gemma3_1b', 'Presets cannot be downloaded from kaggle yet. Received: "kaggle://'],
    ['hf://google/gemma-3-1b', 'Presets cannot be downloaded from hf yet.'],
    ['gemma3_1b', 'The files of preset "gemma3_1b" are not on this machine and cannot be downloaded yet. Download '],
    ['gemma3_1b', 'only the architecture: loadWeights: false in code, "gemma3 inspect" on the command line.'],
    ['gemma3_2b', 'Received: "gemma3_2b", which is none of these.'],
    ['toString', 'Received: "toString", which is none of these.'],
    ['/no/such/folder', 'Received: "/no/such/folder", which is none of these.'],
    ['', 'Expected a preset: a folder, an address or a name. Received: "".'],
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
  [{}, /Expected a preset: a folder, an address or a name. Received: \{\}/],
  ['google/gemma-3-1b-it', /which is none of these. To use a model of Hugging Face/],
])('refuses %p', async (preset, message) => {
  await expect(openPreset(preset as string)).rejects.toThrow(message);
});
