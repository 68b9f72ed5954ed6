/** Platforms that refuse memory, threads or WebAssembly; and programs that choose no backend. */
import {execFile} from 'node:child_process';
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join, resolve} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {build} from 'esbuild';
import {describeBackends, useBackend} from '../../src';
import {type SimdBackend} from '../../src/backends/simd/memory/simd_backend';
import * as threads from '../../src/platform/node/threads';

jest.mock('../../src/platform/node/threads', () => ({
  __esModule: true,
  ...jest.requireActual<typeof threads>('../../src/platform/node/threads'),
}));

const engine = () => (tf.backend() as unknown as SimdBackend).engine;

describe('in this process', () => {
  let warn: jest.SpyInstance;
  const warnings = () => warn.mock.calls.map(([text]) => text as string);
  const product = () => tf.tidy(() => Array.from(tf.matMul(tf.ones([2, 3]), tf.ones([3, 2])).dataSync()));

  beforeEach(() => {
    warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
    jest.spyOn(threads, 'coreCount').mockReturnValue(2);
  });
  afterEach(async () => {
    jest.restoreAllMocks();
    // A new engine would get the options of the last one.
    await useBackend('simd', {wide: false});
    await tf.setBackend('cpu');
    tf.removeBackend('simd');
  });

  const {Memory} = WebAssembly;
  /** Refuses memories of more pages. */
  const allowMemory = (pages: {shared: number; unshared: number}) => {
    const allowed = (given: WebAssembly.MemoryDescriptor & {shared?: boolean}) => {
      if (given.maximum! > (given.shared ? pages.shared : pages.unshared)) throw new RangeError('no room');
      return new Memory(given);
    };
    jest.spyOn(WebAssembly, 'Memory').mockImplementation(allowed);
  };

  test('smaller memories, with all threads', async () => {
    allowMemory({shared: 20_000, unshared: 65_535});
    expect(await useBackend()).toBe('simd');
    expect([engine().threads, engine().shared, engine().maximumBytes]).toEqual([2, true, 2 ** 30]);
    expect(product()).toEqual([3, 3, 3, 3]);
    expect(warnings()).toEqual([expect.stringMatching(/at most 1024 MiB each instead of 4 GiB.*ulimit -v/)]);
    expect((await describeBackends()).find(({name}) => name === 'simd')!.details).toMatch(
      /2 threads\. Its memories have at most 1024 MiB/,
    );
  });

  test('one thread, where only small memories can be shared', async () => {
    allowMemory({shared: 8192, unshared: 65_535});
    await useBackend();
    expect([engine().threads, engine().shared, engine().maximumBytes]).toEqual([1, false, 65_535 * 65_536]);
    expect(product()).toEqual([3, 3, 3, 3]);
    expect(warnings()).toEqual([expect.stringMatching(/It has one thread\. Shared memory is refused: no room\./)]);
    await useBackend('simd', {threads: 2});
    expect([engine().threads, engine().maximumBytes]).toEqual([2, 2 ** 29]);
  });

  test('no memory at all', async () => {
    allowMemory({shared: 0, unshared: 0});
    expect(await useBackend()).toBe('cpu');
    expect(warnings()).toEqual([expect.stringMatching(/"cpu".* simd: Memory is refused: no room\..*ulimit/)]);
    await expect(useBackend('simd')).rejects.toThrow(/^Backend "simd" cannot be used here. simd: Memory is refused/);
    expect((await describeBackends()).slice(2)).toEqual([
      {name: 'simd', available: false, details: expect.stringMatching(/^Memory is refused: no room/)},
      expect.objectContaining({name: 'cpu', available: true}),
    ]);
  });

  test.each([
    ['at once', () => new Error('Threads are refused: no. Allow them.')],
    ['later', () => undefined],
  ])('no threads, %s', async (_, thrown) => {
    jest.spyOn(threads, 'startThread').mockImplementation(() => {
      const error = thrown();
      if (error) throw error;
      const ready = Promise.reject(new Error('Threads are refused: no. Allow them.'));
      const nothing = async () => {};
      return {ready, ended: new Promise(() => {}), send: () => {}, kill: nothing, stop: nothing};
    });
    expect(await useBackend()).toBe('simd');
    expect([engine().threads, product()]).toEqual([1, [3, 3, 3, 3]]);
    expect(warnings().filter(text => !/It has one thread\. Threads are refused: no\. Allow them\./.test(text))).toEqual(
      [],
    );
    expect((await describeBackends()).find(({name}) => name === 'simd')!.details).toMatch(
      /1 thread\. It has one thread\. Threads are refused/,
    );
    await expect(useBackend('simd', {threads: 2})).rejects.toThrow(
      /simd: Threads are refused: no\. Allow them\. Leave out `threads`/,
    );
    expect(engine().alive).toBe(true);
    await useBackend('simd', {threads: 1});
  });

  test('WebAssembly that may not be compiled', async () => {
    jest.spyOn(WebAssembly, 'Module').mockImplementation(() => {
      throw new WebAssembly.CompileError('refused by a policy');
    });
    expect(await useBackend()).toBe('cpu');
    expect(warnings()).toEqual([expect.stringMatching(/simd: .*refused by a policy\..*'wasm-unsafe-eval'/)]);
    await expect(useBackend('simd')).rejects.toThrow(/'wasm-unsafe-eval'/);
    expect((await describeBackends())[2]).toMatchObject({available: false, details: expect.stringMatching(/policy/)});
  });
});

describe('in a process of its own', () => {
  const folder = mkdtempSync(join(tmpdir(), 'refused-'));
  const script = join(folder, 'script.cjs');
  const preset = resolve('presets/gemma3_tiny');
  afterAll(() => rmSync(folder, {recursive: true}));

  beforeAll(async () => {
    const contents = `import * as tf from '@tensorflow/tfjs';
      import {describeBackends, Gemma3CausalLM, useBackend} from './src';
      const run = new Function('tf', 'useBackend', 'return (async () => {' + process.argv[2] + '})()');
      run(tf, useBackend).then(async () => {
        const lm = await Gemma3CausalLM.fromPreset(${JSON.stringify(preset)});
        const text = await lm.generate('What is the capital of France?', {maxLength: 24, stripPrompt: true});
        const {details} = (await describeBackends()).find(({name}) => name === 'simd');
        console.log(JSON.stringify({backend: tf.getBackend(), text, details}));
      });`;
    const {outputFiles} = await build({
      stdin: {contents, resolveDir: process.cwd()},
      bundle: true,
      write: false,
      platform: 'node',
      logLevel: 'error',
      alias: {'#platform': resolve('src/platform/node')},
      define: {'import.meta.url': '"file:///"'},
    });
    writeFileSync(script, outputFiles![0]!.contents);
  });

  /** Runs `code` before the first `fromPreset`. */
  const run = (code: string, flags: string[] = [], prefix = '') =>
    new Promise<{backend: string; text: string; details: string; stderr: string}>((done, fail) => {
      const command = `${prefix} exec "$@"`;
      const args = ['-c', command, 'sh', process.execPath, ...flags, script, code];
      execFile('sh', args, {timeout: 50_000, env: {...process.env}}, (error, stdout, stderr) => {
        if (error) fail(new Error(`${error.message} ${stdout}`));
        else done({...(JSON.parse(stdout) as {backend: string; text: string; details: string}), stderr});
      });
    });
  const text = ' The capital of France is Paris.';

  test.each([
    ['nothing', '', 'simd'],
    ['tensors', 'tf.tensor1d([1, 2]).dispose()', 'simd'],
    ['tf.setBackend after tensors', 'tf.tensor1d([1, 2]).dispose(); tf.setBackend("cpu")', 'cpu'],
    ['tf.ready', 'await tf.ready()', 'simd'],
    ['tf.setBackend', 'await tf.setBackend("cpu")', 'cpu'],
    ['tf.setBackend after tf.ready', 'await tf.ready(); tf.setBackend("cpu")', 'cpu'],
    ['useBackend, not awaited', 'useBackend("cpu")', 'cpu'],
    ['a backend that is gone', 'await useBackend("cpu"); tf.engine().reset()', 'simd'],
  ])('the first `fromPreset` chooses the backend after %s, without a banner', async (_, code, backend) => {
    expect(await run(code)).toMatchObject({backend, text, stderr: ''});
  });

  // Node 24 renamed the flag of Node 20.
  const permission = Number(process.versions.node.split('.')[0]) >= 24 ? '--permission' : '--experimental-permission';
  test("under Node's permission model", async () => {
    const flags = ['--no-warnings', permission, '--allow-fs-read=*'];
    const refused = await run('', flags);
    expect(refused).toMatchObject({backend: 'simd', text});
    expect(refused.details).toMatch(/1 thread\. It has one thread\. Threads are refused: .*--allow-worker/);
    expect(refused.stderr).toMatch(/^The backend "simd" is limited here\. It has one thread.*\n$/);
    expect(await run('', [...flags, '--allow-worker'])).toMatchObject({backend: 'simd', text, stderr: ''});
  });

  (process.platform === 'linux' ? test : test.skip).each([4_000_000, 2_500_000])(
    'a memory leaves room for JavaScript, of %d kB',
    async limit => {
      expect(await run('', [], `ulimit -v ${limit};`)).toMatchObject({text});
    },
  );

  const onLinux = process.platform === 'linux' ? test : test.skip;
  onLinux('with little address space', async () => {
    const refused = await run('', [], 'ulimit -v 6000000;');
    // Node 24 needs less address space for a memory than Node 20, and has room for one.
    expect(refused).toMatchObject({text, details: expect.stringMatching(/(Memory is|Threads are) refused/)});
    expect(refused.stderr).toMatch(/(Memory is|Threads are) refused/);
    expect(await run('', ['--disable-wasm-trap-handler'], 'ulimit -v 12000000;')).toMatchObject({
      backend: 'simd',
      text,
    });
  });
});
