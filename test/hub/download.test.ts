/** Downloads from local imitations of hubs. */
import {existsSync, lstatSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {cachedPresets, removeCachedPreset, verifyCachedPresets} from '../../src/hub/cache';
import {downloadPreset} from '../../src/hub/download_preset';
import {openPreset} from '../../src/hub/open_preset';
import {lock} from '../../src/platform/node/lock';
import {readAll} from '../../src/base/byte_source';
import {ValueError} from '../../src/base/errors';
import {COMMIT, gitHash, SECRET} from '../support/hub_server';
import {serveFiles} from '../support/file_server';
import {randomBytes} from '../support/random_bytes';
import {
  text,
  KAGGLE,
  HANDLE,
  HF,
  KAGGLE_FILES,
  HF_FILES,
  CHOSEN,
  server,
  root,
  kaggleFolder,
  repository,
  expectFiles,
  noLeaks,
} from '../support/hub_downloads';

describe('Kaggle', () => {
  test('files, marks and checksums are as kagglehub has them', async () => {
    const progress: [number, number][] = [];
    const done = await downloadPreset(KAGGLE, {onProgress: ({loaded, total}) => progress.push([loaded, total])});
    const total = Object.values(KAGGLE_FILES).reduce((sum, {length}) => sum + length, 0);
    expect(done).toMatchObject({name: `${KAGGLE}/3`, folder: join(kaggleFolder(), '3'), received: total});
    expectFiles(done.folder, KAGGLE_FILES);
    expect(progress.at(-1)).toEqual([total, total]);
    expect(readdirSync(kaggleFolder()).sort()).toEqual(['.complete', '3', '3.complete']);
    expect(existsSync(join(kaggleFolder(), '.complete/3/assets/tokenizer/vocabulary.spm.complete'))).toBe(true);
    expect(
      server.asked.filter(({host}) => host === 'hub').every(({authorization}) => authorization === `Bearer ${SECRET}`),
    ).toBe(true);
    noLeaks();
  });

  test('with a version in the cache, nothing is asked', async () => {
    await downloadPreset(`${KAGGLE}/3`);
    const {length} = server.asked;
    expect(await downloadPreset(`${KAGGLE}/3`)).toMatchObject({received: 0});
    expect(server.asked).toHaveLength(length);
    // Without one, only for the newest.
    expect(await downloadPreset(KAGGLE)).toMatchObject({received: 0, name: `${KAGGLE}/3`});
    expect(server.asked).toHaveLength(length + 1);
  });

  test('a model whose licence was not accepted', async () => {
    server.gated.set(HANDLE, 'everyone');
    await expect(downloadPreset(KAGGLE)).rejects.toThrow(
      'Received: HTTP 403. Open https://www.kaggle.com/models/keras/gemma3 in a browser, sign in and accept the licence.',
    );
    delete process.env.KAGGLE_API_TOKEN;
    await expect(downloadPreset(KAGGLE)).rejects.toThrow(
      'no credentials were found. Accept the licence at https://www.kaggle',
    );
    writeFileSync(join(root, 'kaggle.json'), '{"username": "u"}');
    process.env.KAGGLE_CONFIG_DIR = root;
    await expect(downloadPreset(KAGGLE)).rejects.toThrow(
      `Expected Kaggle's credentials in ${join(root, 'kaggle.json')}`,
    );
  });

  test.each([
    [{KAGGLE_API_TOKEN: 't'}, 'Bearer t'],
    [{KAGGLE_USERNAME: 'u', KAGGLE_KEY: 'ü'}, `Basic ${Buffer.from('u:ü').toString('base64')}`],
  ])('credentials from %j', async (environment, header) => {
    delete process.env.KAGGLE_API_TOKEN;
    Object.assign(process.env, environment);
    await downloadPreset(KAGGLE);
    expect(server.asked[0]!.authorization).toBe(header);
  });

  test.each([
    'kaggle://keras/gemma3',
    'kaggle://a/b/c/d/0',
    'kaggle://a/b/c/d/3/x',
    'kaggle://../b/c/d',
    'kaggle://a/b/c/',
  ])('malformed: %s', async name => {
    await expect(downloadPreset(name)).rejects.toThrow('Expected kaggle://owner/model/framework/variation');
    expect(server.asked).toHaveLength(0);
  });

  test('paths that leave the folder are refused', async () => {
    server.versions[`${HANDLE}/3`] = {'../../x.json': text('x')};
    await expect(downloadPreset(KAGGLE)).rejects.toThrow('Expected a usable name of a file');
  });
});

describe('Hugging Face', () => {
  test('blobs, snapshots and refs are as huggingface_hub has them', async () => {
    const done = await downloadPreset(HF);
    expect(done.folder).toBe(join(repository(), 'snapshots', COMMIT));
    expect(done.files.sort()).toEqual(CHOSEN);
    expectFiles(done.folder, Object.fromEntries(CHOSEN.map(path => [path, HF_FILES[path as keyof typeof HF_FILES]])));
    expect(readFileSync(join(repository(), 'refs/main'), 'utf8')).toBe(COMMIT);
    expect(lstatSync(join(done.folder, 'config.json')).isSymbolicLink()).toBe(true);
    expect(readdirSync(join(repository(), 'blobs'))).toContain(gitHash(HF_FILES['config.json']));
    expect(
      readdirSync(join(repository(), 'blobs')).filter(name => !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(name)),
    ).toEqual([]);
    noLeaks();
  });

  test('without links, files are moved', async () => {
    process.env.HF_HUB_DISABLE_SYMLINKS = '1';
    const {folder} = await downloadPreset(HF);
    expect(lstatSync(join(folder, 'config.json')).isFile()).toBe(true);
    expect(await downloadPreset(HF)).toMatchObject({received: 0});
  });

  test('a revision, a folder, a file', async () => {
    const part = await downloadPreset(`${HF}@refs/pr/1/sub`);
    expect(part.folder).toBe(join(repository(), 'snapshots', COMMIT, 'sub'));
    expect(part.files).toEqual(['sub/config.json', 'sub/model.safetensors']);
    expect(readFileSync(join(repository(), 'refs/refs/pr/1'), 'utf8')).toBe(COMMIT);
    const file = await downloadPreset(`${HF}@${COMMIT}/model.gguf`);
    expect(file.folder).toBe(join(repository(), 'snapshots', COMMIT, 'model.gguf'));
    await expect(downloadPreset(`${HF}/none`)).rejects.toThrow('folder "none". Received: 12 other files');
    await expect(downloadPreset(`${HF}/none.gguf`)).rejects.toThrow('Expected file "none.gguf"');
    await expect(downloadPreset(`${HF}@v9`)).rejects.toThrow('there is no revision "v9"');
  });

  test('GGUF files are models, one each', async () => {
    server.repositories['google/gguf'] = {'a.gguf': text('a'), 'b.gguf': text('b'), 'README.md': text('')};
    await expect(downloadPreset('hf://google/gguf')).rejects.toThrow(
      'Name one of them: hf://google/gguf/a.gguf, hf://google/gguf/b.gguf.',
    );
  });

  test('gated, missing and private models', async () => {
    server.gated.set('google/gemma-3-270m-it', 'credentials');
    delete process.env.HF_TOKEN;
    await expect(downloadPreset(HF)).rejects.toThrow(
      `access to this model is granted on its page. Open ${server.hub}/google/gemma-3-270m-it in a browser`,
    );
    await expect(downloadPreset('hf://google/none')).rejects.toThrow('there is no such model, or it is private');
    process.env.HF_TOKEN = SECRET;
    await downloadPreset(HF);
    for (const name of ['hf://google', 'hf://datasets/a/b', 'hf://a/b@', 'hf://a/b/../c', 'hf://a/b\\c'])
      await expect(downloadPreset(name)).rejects.toThrow('Expected hf://owner/name of a model');
  });

  test('a branch that has moved is followed, and files that stayed are not fetched again', async () => {
    await downloadPreset(HF);
    server.commit = COMMIT.replace('0', 'f');
    server.repositories['google/gemma-3-270m-it'] = {...HF_FILES, 'config.json': text('{"new": 1}')};
    expect(await downloadPreset(HF)).toMatchObject({
      received: 10, folder: join(repository(), 'snapshots', server.commit),
    }); // prettier-ignore
    expect(readFileSync(join(repository(), 'refs/main'), 'utf8')).toBe(server.commit);
    // The old commit is still there.
    expect(await downloadPreset(`${HF}@${COMMIT}`)).toMatchObject({received: 0});
  });
});

describe('presets', () => {
  test('files are downloaded when they are opened, weights not with a configuration', async () => {
    const preset = await openPreset(HF);
    expect(server.downloads).toHaveLength(0);
    expect([await preset.has('config.json'), await preset.has('pytorch_model.bin')]).toEqual([true, false]);
    expect(await readAll(preset, 'config.json')).toEqual(HF_FILES['config.json']);
    expect(server.downloads.filter(({path}) => path.includes('00001-of'))).toHaveLength(0);
    await readAll(preset, 'model-00001-of-00002.safetensors');
    expect(server.downloads.filter(({path, host}) => host === 'storage' && path.includes('.safetensors'))).toHaveLength(
      3,
    );
    // Other files are downloaded when they are requested. Then the model is complete.
    await readAll(preset, 'tokenizer.json');
    const {length} = server.asked;
    expect(await readAll(await openPreset(`hf://google/gemma-3-270m-it@${COMMIT}`), 'config.json')).toEqual(
      HF_FILES['config.json'],
    );
    expect(server.asked).toHaveLength(length);
  });

  test('names of the registry', async () => {
    const preset = await openPreset('gemma3_270m', {offline: false}).catch((error: Error) => error);
    expect((preset as {name: string}).name).toMatch(/^kaggle:\/\/keras\/gemma3\/keras\/gemma3_270m\/\d+$/);
  });

  test('offline', async () => {
    await expect(openPreset(HF, {offline: true})).rejects.toThrow('since downloads are switched off');
    process.env.HF_HUB_OFFLINE = '1';
    await expect(openPreset(KAGGLE)).rejects.toThrow('since downloads are switched off');
    await downloadPreset(KAGGLE, {offline: false});
    await downloadPreset(HF, {offline: false});
    const {length} = server.asked;
    for (const name of [KAGGLE, HF])
      expect((await readAll(await openPreset(name), 'config.json')).length).toBeGreaterThan(1);
    expect(server.asked).toHaveLength(length);
  });

  test('a hub that cannot be reached is not needed for what is in the cache', async () => {
    await downloadPreset(KAGGLE);
    await downloadPreset(HF);
    process.env.HF_ENDPOINT = process.env.KAGGLE_API_ENDPOINT = 'http://127.0.0.1:9';
    for (const name of [KAGGLE, HF]) expect(await downloadPreset(name)).toMatchObject({received: 0});
  });

  test('into a folder, from the hub and from the cache', async () => {
    const to = join(root, 'mine');
    expect(await downloadPreset(KAGGLE, {to})).toMatchObject({folder: to});
    expectFiles(to, KAGGLE_FILES);
    expect(await downloadPreset(KAGGLE, {to})).toMatchObject({received: 0});
    await downloadPreset(HF);
    const copied = await downloadPreset(HF, {to: join(root, 'copied')});
    expect(copied.received).toBe(0);
    expect(lstatSync(join(root, 'copied/config.json')).isFile()).toBe(true);
  });
});

test('a GGUF file is a preset', async () => {
  const source = await openPreset(`${HF}/model.gguf`);
  expect(source.name).toBe(join(repository(), 'snapshots', COMMIT, 'model.gguf'));
  expect(await readAll(source, 'model.gguf')).toEqual(HF_FILES['model.gguf']);
  const parts = ['b-00001-of-00002.gguf', 'b-00002-of-00002.gguf'];
  server.repositories['google/parts'] = Object.fromEntries([...parts, 'c.gguf'].map(path => [path, text(path)]));
  expect((await downloadPreset(`hf://google/parts/${parts[0]}`)).files).toEqual(parts);
});

test('what a process leaves that is killed between finishing and adding a file is cleaned up', async () => {
  await downloadPreset(HF);
  const place = join(repository(), 'snapshots', COMMIT, 'config.json');
  const blob = realpathSync(place);
  rmSync(place);
  writeFileSync(`${blob}.part.ranges`, 'x\n0 5\n');
  await downloadPreset(HF);
  expectFiles(join(repository(), 'snapshots', COMMIT), {'config.json': HF_FILES['config.json']});
  expect(existsSync(`${blob}.part.ranges`)).toBe(false);
});

describe('headers of the user', () => {
  const headers = {authorization: `Bearer ${SECRET}`, 'x-team': 'a'};

  test.each([KAGGLE, HF])('go to the hub with every request, in place of its credentials: %s', async name => {
    server.gated.set(name === HF ? 'google/gemma-3-270m-it' : HANDLE, 'credentials');
    for (const token of [undefined, 'hf_outdated']) {
      for (const key of ['HF_TOKEN', 'KAGGLE_API_TOKEN']) {
        if (token === undefined) delete process.env[key];
        else process.env[key] = token;
      }
      await expect(downloadPreset(name)).rejects.toThrow(ValueError);
      server.asked.length = 0;
      await downloadPreset(name, {headers, to: join(root, `with ${token}`)});
      const hub = server.asked.filter(({host}) => host === 'hub');
      expect([...new Set(hub.map(({authorization}) => authorization))]).toEqual([`Bearer ${SECRET}`]);
      noLeaks();
    }
    server.asked.length = 0;
    const ranged = await openPreset(name, {headers, download: false});
    await readAll(ranged, 'config.json');
    const large = await ranged.open(name === HF ? 'tokenizer.model' : 'model.weights.h5');
    for (const offset of [0, 500]) await large.readInto(offset, new Uint8Array(10));
    noLeaks();
    const [wrong, advice] = [
      {headers: {authorization: 'Bearer no'}},
      name === HF ? 'check that the token' : 'check that',
    ];
    await expect(downloadPreset(name, {...wrong, to: join(root, 'wrong')})).rejects.toThrow(advice);
  });

  test('go to the server of a folder, from the first question on', async () => {
    const files = {'a/config.json': text('{"a": 1}'), 'a/model.weights.h5': randomBytes(1000, 1)};
    const web = await serveFiles(files, {authorization: headers.authorization});
    try {
      await expect(downloadPreset(`${web.address}/a`)).rejects.toThrow('401');
      const {files: names} = await downloadPreset(`${web.address}/a`, {headers});
      expect(names.sort()).toEqual(['config.json', 'model.weights.h5']);
    } finally {
      await web.close();
    }
  });
});

describe('web addresses', () => {
  const preset = {
    'config.json': text('{"a": 1}'),
    'model.weights.json': text('{"weight_map": {"/x": ["model_00000.weights.h5"]}}'),
    'model_00000.weights.h5': randomBytes(150_000, 1),
  };
  test.each([[{}], [{page: true}], [{ranges: false}]])('a folder is downloaded into the cache: %j', async habits => {
    const files = Object.fromEntries(Object.entries(preset).map(([path, bytes]) => [`preset/${path}`, bytes]));
    const web = await serveFiles(files, habits);
    try {
      const done = await downloadPreset(`${web.address}/preset?token=${SECRET}`);
      expect(done.files.sort()).toEqual(Object.keys(preset).sort());
      expectFiles(done.folder, preset);
      expect(await downloadPreset(`${web.address}/preset`)).toMatchObject({received: 0});
      expect(await downloadPreset(`${web.address}/preset`, {offline: true})).toMatchObject({folder: done.folder});
      expect((await cachedPresets()).map(({name}) => name)).toEqual([`${web.address}/preset`]);
      const {length} = web.log;
      const kept = await openPreset(`${web.address}/preset`, {offline: true});
      expect(await readAll(kept, 'config.json')).toEqual(preset['config.json']);
      expect(web.log).toHaveLength(length);
      await removeCachedPreset(`${web.address}/preset`);
      expect(existsSync(done.folder)).toBe(false);
      await expect(downloadPreset(`${web.address}/none`)).rejects.toThrow('Expected a folder with files of a preset');
    } finally {
      await web.close();
    }
  });
});

test('an unfinished download from a web address is listed, and removed', async () => {
  const web = await serveFiles({'preset/config.json': text('{}'), 'preset/model.weights.h5': randomBytes(90_000, 1)});
  const name = `${web.address}/preset`;
  try {
    const stop = new AbortController();
    const onProgress = () => stop.abort('stopped');
    await expect(downloadPreset(name, {signal: stop.signal, onProgress})).rejects.toBe('stopped');
    expect(await cachedPresets()).toEqual([expect.objectContaining({name, complete: false})]);
    await removeCachedPreset(name);
    expect(await cachedPresets()).toEqual([]);
  } finally {
    await web.close();
  }
});

test('a file at a web address, also one of several parts, is kept and opened without requests', async () => {
  const parts = [1, 2].map(i => `split-0000${i}-of-00002.gguf`);
  const files = Object.fromEntries(['one.gguf', ...parts].map((name, i) => [`models/${name}`, randomBytes(90_000, i)]));
  const web = await serveFiles(files);
  try {
    for (const [name, names] of [
      ['one.gguf', ['one.gguf']],
      [parts[0]!, parts],
    ] as const) {
      const address = `${web.address}/models/${name}`;
      const progress: unknown[] = [];
      const done = await downloadPreset(address, {
        onProgress: ({file, fileLoaded, fileTotal}) => fileLoaded === fileTotal && progress.push(file),
      });
      expect(done).toMatchObject({name: address, files: names, received: 90_000 * names.length});
      // Files are downloaded at the same time, so any of them may be the first.
      expect(progress.sort()).toEqual(names);
      const {length} = web.log;
      const kept = await openPreset(address, {offline: true});
      for (const path of names) expect(await readAll(kept, path)).toEqual(files[`models/${path}`]);
      expect(web.log).toHaveLength(length);
    }
    const names = (await cachedPresets()).map(({name, complete}) => [name, complete]);
    expect(names.sort()).toEqual(['one.gguf', parts[0]!].map(name => [`${web.address}/models/${name}`, true]));
    await expect(downloadPreset(`${web.address}/models/none.gguf`)).rejects.toThrow('Received: no such file');
    await expect(openPreset(`${web.address}/models/none.gguf`, {offline: true})).rejects.toThrow(
      'Received: a cache without it',
    );
  } finally {
    await web.close();
  }
});

describe('the cache', () => {
  test('is listed, verified, repaired and emptied', async () => {
    await downloadPreset(KAGGLE);
    await downloadPreset(HF);
    const models = await cachedPresets();
    expect(models.map(({name, complete}) => [name, complete])).toEqual([
      [`${KAGGLE}/3`, true],
      [HF, true],
    ]);
    expect((await verifyCachedPresets()).map(({damaged, unknown}) => [damaged, unknown])).toEqual([
      [[], []],
      [[], []],
    ]);
    const damage = join(kaggleFolder(), '3/model.weights.h5');
    const bytes = readFileSync(damage);
    bytes[5]! ^= 1;
    writeFileSync(damage, bytes);
    const blob = join(repository(), 'snapshots', COMMIT, 'config.json');
    writeFileSync(blob, '{}');
    const [kaggle, hf] = await verifyCachedPresets(undefined, {repair: true});
    expect(kaggle!.damaged).toMatchObject([
      {path: 'model.weights.h5', problem: expect.stringContaining('has md5') as string},
    ]);
    expect(hf!.damaged).toMatchObject([{path: 'config.json'}]);
    expect((await downloadPreset(KAGGLE)).received).toBe(bytes.length);
    expect((await downloadPreset(HF)).received).toBe(HF_FILES['config.json'].length);
    await removeCachedPreset(KAGGLE);
    await removeCachedPreset(HF);
    expect(await cachedPresets()).toEqual([]);
    await expect(removeCachedPreset(HF)).rejects.toThrow('Expected the name of a model in the cache');
  });

  test('what is being downloaded is neither removed nor repaired', async () => {
    await downloadPreset(KAGGLE);
    writeFileSync(join(kaggleFolder(), '3/config.json'), '{');
    const download = await lock(join(kaggleFolder(), '.3.lock'), undefined, () => {});
    const refused = `Received: ${KAGGLE}/3, whose download is running.`;
    await expect(removeCachedPreset(KAGGLE)).rejects.toThrow(refused);
    await expect(verifyCachedPresets(KAGGLE, {repair: true})).rejects.toThrow(refused);
    expect((await verifyCachedPresets(KAGGLE))[0]!.damaged).toMatchObject([{path: 'config.json'}]);
    await download.release();
    expect((await removeCachedPreset(KAGGLE)).map(({name}) => name)).toEqual([`${KAGGLE}/3`]);
    expect(existsSync(kaggleFolder())).toBe(false);
  });
});
