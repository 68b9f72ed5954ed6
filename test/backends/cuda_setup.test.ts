/** The set-up of the backend `cuda` with made-up programs: order, what is missing, interruptions. Nothing is fetched. */
import {existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {dirname, join} from 'node:path';
import {guarded} from '../../src/backends/cuda/native/binding';
import {missingLibraries} from '../../src/backends/cuda/native/libraries';
import {toOutOfMemory} from '../../src/backends/cuda/native/memory';
import {probe} from '../../src/backends/cuda/native/probe';
import {cudaFolder, findInstalled, folderOf, VERSIONS} from '../../src/backends/cuda/native/place';
import {removeCuda, setUpCuda} from '../../src/backends/cuda/setup';
import {type Run, run as runProgram} from '../../src/backends/cuda/setup/programs';
import {findTools, type Machine} from '../../src/backends/cuda/setup/requirements';
import {OutOfMemoryError} from '../../src';

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'cuda-'))));
afterEach(() => rmSync(root, {recursive: true, force: true}));

const done = {code: 0, stdout: '', stderr: ''};

/** Programs that leave the files that the real ones would. */
function programs(calls: string[], answers: {[program: string]: () => Partial<typeof done>} = {}): Run {
  return async (program, args) => {
    const line = [program, ...args].join(' ');
    const own = Object.entries(answers).find(([name]) => line.includes(name));
    if (own) calls.push(own[0]);
    if (own) return {...done, ...own[1]()};
    if (args.includes('--version')) return done;
    if (args[1] === 'pip') {
      calls.push(`fetch ${args.at(-1)}`);
      const folder = args[args.indexOf('-d') + 1]!;
      for (const name of args.slice(args.indexOf('-d') + 2)) {
        writeFileSync(join(folder, `${name.replace('==', '-').replace(/^tensorflow-cpu/, 'tensorflow_cpu')}.whl`), '');
      }
      return done;
    }
    if (program === 'npm') {
      calls.push(`pack ${args.at(-1)}`);
      return {...done, stdout: 'package.tgz\n'};
    }
    if (args[0] === '-c' && args[1]!.includes('tarfile')) return done;
    if (args[0] === '-c' && args[1]!.includes('Requires-Dist')) return {...done, stdout: 'nvidia-a==1\nnvidia-b==2\n'};
    if (args[0] === '-c') {
      calls.push(`unpack ${args[4]}`);
      mkdirSync(join(args[3]!, args[4]!.split('/')[0]!), {recursive: true});
      return done;
    }
    if (args.includes('-shared')) {
      calls.push('build');
      const file = args.at(-1)!;
      mkdirSync(dirname(file), {recursive: true});
      writeFileSync(file, 'binding');
      return done;
    }
    if (args[0] === '-e') {
      calls.push('prove');
      return {...done, stdout: JSON.stringify({gpu: true, version: VERSIONS.tensorflow, error: 1e-6})};
    }
    throw new Error(`Not expected: ${line}`);
  };
}

const machineOf = (run: Run, more: Partial<Machine> = {}): Machine => ({
  platform: 'linux',
  arch: 'x64',
  environment: {},
  run,
  exists: () => true,
  freeBytes: async () => 1e12,
  ...more,
});

const setUp = (run: Run, more: Partial<Parameters<typeof setUpCuda>[0]> = {}) => {
  const said: string[] = [];
  const done = setUpCuda({variant: 'cpu', root, say: line => said.push(line), machine: machineOf(run), ...more});
  return done.then(() => said);
};

test('fetches, builds and proves, and the folder has its name only then', async () => {
  const calls: string[] = [];
  const folder = folderOf('cpu', root);
  const said = await setUp(
    programs(calls, {
      'process.dlopen': () => {
        expect(existsSync(folder)).toBe(false);
        return {stdout: JSON.stringify({gpu: false, version: VERSIONS.tensorflow, error: 0})};
      },
    }),
  );
  expect(calls).toEqual([
    `fetch tensorflow-cpu==${VERSIONS.tensorflow}`,
    'unpack tensorflow/libtensorflow_',
    `pack @tensorflow/tfjs-node-gpu@${VERSIONS.tfjsNode}`,
    `pack node-api-headers@${VERSIONS.headers}`,
    'build',
    'process.dlopen',
  ]);
  expect(readdirSync(root)).toEqual([folder.slice(root.length + 1)]);
  expect(readdirSync(folder).sort()).toEqual(['setup.json', 'tensorflow', 'tfjs-node', 'tfjs_binding.node']);
  expect(findInstalled(root)).toEqual({folder, variant: 'cpu', tensorflow: VERSIONS.tensorflow});
  expect(said.at(-2)).toBe(`TensorFlow ${VERSIONS.tensorflow} is set up, on the CPU: ${folder}`);
  // Once more: there is nothing to do.
  calls.length = 0;
  expect(await setUp(programs(calls))).toEqual([`TensorFlow ${VERSIONS.tensorflow} is set up already: ${folder}`]);
  expect(calls).toEqual([]);
});

test("for a GPU, NVIDIA's packages that the wheel names are put next to TensorFlow", async () => {
  const calls: string[] = [];
  await setUp(programs(calls), {variant: 'gpu'});
  expect(calls).toContain('fetch nvidia-b==2');
  expect(calls.filter(call => call === 'unpack nvidia/')).toHaveLength(2);
  expect(readdirSync(folderOf('gpu', root))).toContain('nvidia');
});

test('a run that failed is continued with the step that failed', async () => {
  const calls: string[] = [];
  const failing = programs(calls, {'-shared': () => ({code: 1, stderr: 'no such header\n'})});
  await expect(setUp(failing)).rejects.toThrow(
    /Expected the build to succeed\. Received: "g\+\+ .*" ended with 1: no such header\. .*goes on where it stopped/,
  );
  expect(findInstalled(root)).toBeUndefined();
  calls.length = 0;
  await setUp(programs(calls));
  expect(calls).toEqual(['build', 'prove']);
});

test('a GPU that does not answer, and wrong products, are errors', async () => {
  const proof = (found: object) => programs([], {'process.dlopen': () => ({stdout: JSON.stringify(found)})});
  const right = {gpu: false, version: VERSIONS.tensorflow, error: 0};
  await expect(setUp(proof(right), {variant: 'gpu'})).rejects.toThrow(
    /Expected TensorFlow to find the GPU.*nvidia-smi/,
  );
  await expect(setUp(proof({...right, error: 1}))).rejects.toThrow(/wrong by 1/);
  expect(findInstalled(root)).toBeUndefined();
});

test('everything that is missing is named at once, with how to get it', async () => {
  const nothing = machineOf(async () => ({...done, code: 127}), {exists: () => false, freeBytes: async () => 5e8});
  const {missing} = await findTools(nothing, 'gpu', root);
  expect(missing.map(({what}) => what)).toEqual([
    'Python with pip',
    'a C++ compiler',
    'npm',
    'the driver of an NVIDIA GPU',
    `9.0 GB on the disk of ${root}, of which 500 MB are free`,
  ]);
  for (const {get} of missing) expect(get).toMatch(/apt install|https:|GEMMA3_CUDA_FOLDER/);
  await expect(setUp(nothing.run, {machine: nothing})).rejects.toThrow(
    /Python with pip\. on Debian.*a C\+\+ compiler/s,
  );
  const {missing: elsewhere} = await findTools(machineOf(programs([]), {platform: 'darwin'}), 'cpu', root);
  expect(elsewhere.map(({what}) => what)).toEqual([expect.stringMatching(/Linux on x64.*this is darwin on x64/)]);
});

test('a dry run changes nothing', async () => {
  const calls: string[] = [];
  const said = await setUp(programs(calls), {dryRun: true});
  expect(said[0]).toMatch(/Fetch the wheel tensorflow-cpu==/);
  expect(said.at(-1)).toBe(`Keep the result in ${folderOf('cpu', root)}`);
  expect(calls).toEqual([]);
  expect(readdirSync(root)).toEqual([]);
});

test('what was set up is removed, and what an interrupted run has left', async () => {
  await setUp(programs([]));
  mkdirSync(join(root, '.tensorflow-x.unfinished'));
  writeFileSync(join(root, 'other'), '');
  const said: string[] = [];
  await removeCuda({root, say: line => said.push(line), dryRun: true});
  expect(said).toHaveLength(2);
  expect(findInstalled(root)).toBeDefined();
  await removeCuda({root, say: line => said.push(line)});
  expect(readdirSync(root)).toEqual(['other']);
  await removeCuda({root, say: line => said.push(line)});
  expect(said.at(-1)).toBe('Nothing is set up.');
});

test('the folder is in the cache of the user, or where a variable says', () => {
  expect(cudaFolder({XDG_CACHE_HOME: '/x'})).toBe('/x/tfjs-gemma3/cuda');
  expect(cudaFolder({XDG_CACHE_HOME: '/x', GEMMA3_CUDA_FOLDER: '/y'})).toBe('/y');
});

test('programs that do not exist end with 127, and others with their code and their output', async () => {
  expect((await runProgram('no-such-program', [])).code).toBe(127);
  const text = 'console.log(1); console.error(2); process.exit(3)';
  expect(await runProgram(process.execPath, ['-e', text])).toEqual({code: 3, stdout: '1\n', stderr: '2\n'});
});

describe('a library that another process loads', () => {
  test('and that does not exist, or is none', async () => {
    expect(await probe(join(root, 'none.node'))).toEqual({
      error: expect.stringMatching(/none\.node: cannot open shared object file/) as string,
    });
    const file = join(root, 'text.node');
    writeFileSync(file, 'text');
    expect(await probe(file)).toEqual({error: expect.stringMatching(/text\.node: (file too short|invalid)/) as string});
  });
});

describe('libraries of NVIDIA', () => {
  test('those that are missing or broken are named', () => {
    const folder = join(root, 'nvidia', 'cudnn', 'lib');
    mkdirSync(folder, {recursive: true});
    writeFileSync(join(folder, 'libcudnn.so.9'), 'text');
    const missing = missingLibraries(join(root, 'nvidia'));
    expect(missing).toContainEqual(expect.stringMatching(/^libcudnn\.so\.9 \(.*(file too short|invalid)/));
    // They are on machines with a GPU only.
    if (missing.length > 1) expect(missing).toContain('libcublas.so.12');
    for (const name of missingLibraries()) expect(name).toMatch(/^lib\w+\.so\.\d+/);
  });
});

describe('errors of TensorFlow', () => {
  const oom = 'OOM when allocating tensor with shape[1000,500] and type float on device:GPU:0 by allocator GPU_0_bfc';

  test('no memory: what was wanted, what is free, and the dtype that fits', () => {
    const error = toOutOfMemory(oom, () => ({free: 1.5e6, total: 8e9})) as OutOfMemoryError;
    expect(error).toBeInstanceOf(OutOfMemoryError);
    expect(error.figures).toEqual({bytes: 2e6, used: 8e9 - 1.5e6, limit: 8e9, largest: 8e9});
    expect(error.message).toMatch(/2\.0 MB.*shape \[1000,500\].*1\.5 MB are free.*"bfloat16"/);
    expect(toOutOfMemory(oom, () => ({free: 6e5, total: 8e9}))!.message).toMatch(/"int8" a weight .* takes 563 kB/);
    const bfloat16 = oom.replace('float', 'bfloat16');
    expect(toOutOfMemory(bfloat16, () => ({free: 6e5, total: 8e9}))!.message).toMatch(/1\.0 MB.*"int8"/);
    expect(toOutOfMemory(oom, () => ({free: 1e5, total: 8e9}))!.message).toMatch(/smaller model or shorter inputs/);
    expect(toOutOfMemory('another error')).toBeUndefined();
    expect((toOutOfMemory(oom, () => undefined) as OutOfMemoryError).figures.bytes).toBe(2e6);
  });

  test('no memory for values of the host: what was to be created', () => {
    const refused = jest.fn(() => {
      throw new Error('Dst tensor is not initialized.');
    });
    const {createTensor} = guarded({createTensor: refused} as never);
    expect(() => createTensor([1000, 500], 1, new Float32Array(1))).toThrow(/Expected memory for 2\.0 MB/);
    // Half of a bfloat16 number each.
    expect(() => createTensor([1000, 500, 2], 4, new Uint8Array(1))).toThrow(/Expected memory for 1\.0 MB/);
  });

  test('any other: the operation, with its text', () => {
    const fails = () => {
      throw new Error('In[0]\n is not a matrix');
    };
    const binding = guarded({executeOp: fails, createTensor: fails, tensorDataSync: fails} as never);
    const text = 'In\\[0\\] is not a matrix';
    expect(() => binding.executeOp('MatMul', [], [], 1)).toThrow(new RegExp(`operation "MatMul": ${text}`));
    expect(() => binding.createTensor([2], 1, new Float32Array(2))).toThrow(new RegExp(`shape \\[2\\]: ${text}`));
    expect(() => binding.tensorDataSync(1)).toThrow(new RegExp(`to read a tensor: ${text}`));
    expect(binding.counts.operations).toBe(1);
  });
});
