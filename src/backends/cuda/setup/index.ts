/**
 * `gemma3 setup-cuda`: TensorFlow from its wheel on PyPI, and tfjs' binding to it, built from the source in tfjs' package.
 *
 * Everything happens in one unfinished folder, where each finished step stays until all are done: a run that was
 * interrupted goes on with the next one. The folder then gets its name in one step.
 */
import {existsSync} from 'node:fs';
import {mkdir, readdir, rename, rm, writeFile} from 'node:fs/promises';
import {basename, dirname, join} from 'node:path';
import {ValueError} from '../../../base/errors';
import {freeBytes, lock} from '#platform/store';
import {BINDING, cudaFolder, folderOf, PACKAGE, recordOf, type Variant, VERSIONS} from '../native/place';
import {endOf, type Run, run as runProgram} from './programs';
import {findTools, type Machine, type Missing, thisMachine, type Tools} from './requirements';
import {GPU_PACKAGES, PROVE, UNPACK, UNTAR} from './scripts';

export interface SetupOptions {
  variant: Variant;
  /** Only say what would be done, and what is missing. */
  dryRun?: boolean;
  signal?: AbortSignal;
  /** Takes a line for the user. */
  say: (line: string) => void;
  /** Whether programs may show their progress on the terminal. */
  terminal?: boolean;
  root?: string;
  machine?: Machine;
}

const WHEEL: Readonly<Record<Variant, string>> = {
  cpu: `tensorflow-cpu==${VERSIONS.tensorflow}`,
  gpu: `tensorflow==${VERSIONS.tensorflow}`,
};

/** Only the library in it is used, so it may be for another Python than the one that fetches it. */
const FOR_PYTHON = ['--python-version', '3.12', '--implementation', 'cp'];
const PLATFORMS = ['manylinux_2_28', 'manylinux_2_27', 'manylinux_2_17', 'manylinux2014', 'manylinux1'];

/** Headers of TensorFlow's C interface, and what they include. */
const HEADERS = ['c/', 'core/platform/', 'tsl/'].map(name => `tensorflow/include/tensorflow/${name}`);
const OTHER_HEADERS = ['tsl/', 'xla/tsl/'].map(name => `tensorflow/include/${name}`);

const listOf = (missing: readonly Missing[]) => missing.map(({what, get}) => `\n  - ${what}. ${get}`).join('');

/** @throws ValueError naming everything that is missing, or the step that failed. */
export async function setUpCuda(options: SetupOptions): Promise<void> {
  const {variant, dryRun = false, signal, say} = options;
  const root = options.root ?? cudaFolder();
  const machine = options.machine ?? thisMachine(runProgram, freeBytes);
  const folder = folderOf(variant, root);
  if (existsSync(recordOf(folder))) {
    say(`TensorFlow ${VERSIONS.tensorflow} is set up already: ${folder}`);
    return;
  }
  const {tools, missing} = await findTools(machine, variant, root);
  if (dryRun) {
    for (const line of planOf(variant, folder, tools)) say(line);
    if (missing.length) say(`Missing:${listOf(missing)}`);
    return;
  }
  if (missing.length) {
    throw new ValueError(`Expected everything that the set-up needs. Received: some is missing:${listOf(missing)}`);
  }
  const held = await lock(join(root, `${basename(folder)}.lock`), signal, () =>
    say('Another process sets it up. Waiting for it.'),
  );
  try {
    if (!existsSync(recordOf(folder))) await new Setup(options, root, tools, machine.run).run();
  } finally {
    await held.release();
  }
}

function planOf(variant: Variant, folder: string, {python, compiler, npm}: Tools): string[] {
  return [
    `Fetch the wheel ${WHEEL[variant]} with "${python} -m pip"${variant === 'gpu' ? ", and NVIDIA's packages that it names" : ''}.`,
    `Fetch @tensorflow/tfjs-node-gpu ${VERSIONS.tfjsNode} and node-api-headers ${VERSIONS.headers} with "${npm} pack".`,
    `Build the binding with "${compiler}".`,
    'Multiply two matrices with it, in a process of its own.',
    `Keep the result in ${folder}`,
  ];
}

class Setup {
  private readonly work: string;
  private readonly downloads: string;
  /** What becomes the folder. */
  private readonly ready: string;
  private readonly final: string;

  constructor(
    private readonly options: SetupOptions,
    root: string,
    private readonly tools: Tools,
    private readonly program: Run,
  ) {
    this.final = folderOf(options.variant, root);
    this.work = join(root, `.${basename(this.final)}.unfinished`);
    this.downloads = join(this.work, 'downloads');
    this.ready = join(this.work, 'ready');
  }

  async run(): Promise<void> {
    const {say, variant} = this.options;
    await mkdir(this.downloads, {recursive: true});
    await mkdir(this.ready, {recursive: true});
    const wheel = await this.fetchWheel(WHEEL[variant], 'tensorflow');
    await this.step(join(this.ready, 'tensorflow'), 'Unpacking TensorFlow', part =>
      this.unpack(wheel, part, 'tensorflow', ['tensorflow/libtensorflow_', ...HEADERS, ...OTHER_HEADERS]),
    );
    if (variant === 'gpu') await this.fetchNvidia(wheel);
    const source = join(this.ready, PACKAGE);
    await this.step(source, 'Fetching tfjs-node', part =>
      this.fetchPackage(`@tensorflow/tfjs-node-gpu@${VERSIONS.tfjsNode}`, part),
    );
    const headers = join(this.work, 'headers');
    await this.step(headers, "Fetching Node's headers", part =>
      this.fetchPackage(`node-api-headers@${VERSIONS.headers}`, part),
    );
    await this.step(join(this.ready, BINDING), 'Building the binding', part => this.build(source, headers, part));
    say('Trying it.');
    const device = await this.prove();
    await rm(join(this.ready, 'tensorflow', 'include'), {recursive: true, force: true});
    const record = {tensorflow: VERSIONS.tensorflow, tfjsNode: VERSIONS.tfjsNode, node: process.version};
    await writeFile(recordOf(this.ready), `${JSON.stringify(record, null, 2)}\n`);
    await rm(this.final, {recursive: true, force: true});
    await rename(this.ready, this.final);
    await rm(this.work, {recursive: true, force: true});
    say(`TensorFlow ${VERSIONS.tensorflow} is set up, on ${device}: ${this.final}`);
    say(`Use it with useBackend('cuda'), or --backend cuda.`);
  }

  /** Makes a file or folder under another name first, so that what has the right name is complete. */
  private async step(target: string, what: string, make: (part: string) => Promise<void>): Promise<void> {
    if (existsSync(target)) return;
    this.options.say(`${what}.`);
    const part = join(dirname(target), `.${basename(target)}.part`);
    await rm(part, {recursive: true, force: true});
    await make(part);
    this.options.signal?.throwIfAborted();
    await rename(part, target);
  }

  /** @throws ValueError with what the program has written, if it fails. */
  private async call(what: string, program: string, args: readonly string[], shown = false): Promise<string> {
    const {signal} = this.options;
    const finished = await this.program(program, args, {...(signal && {signal}), shown});
    if (finished.code === 0) return finished.stdout;
    const text = shown ? 'see its messages above' : endOf(finished);
    throw new ValueError(
      `Expected ${what} to succeed. Received: "${program} ${args.slice(0, 4).join(' ')} …" ended with ${finished.code}: ${text}. ` +
        'Correct what it says, and run the set-up again: it goes on where it stopped.',
    );
  }

  private python(what: string, script: string, ...args: string[]): Promise<string> {
    return this.call(what, this.tools.python, ['-c', script, ...args]);
  }

  /** Fetches wheels by what pip calls a requirement. pip checks their digests, and keeps complete ones. */
  private async fetchWheels(requirements: readonly string[]): Promise<void> {
    const platforms = PLATFORMS.flatMap(name => ['--platform', `${name}_x86_64`]);
    const fixed = ['-m', 'pip', 'download', '--no-deps', '--only-binary=:all:', ...FOR_PYTHON, ...platforms];
    const args = [...fixed, '--disable-pip-version-check', '-d', this.downloads, ...requirements];
    await this.call('the download', this.tools.python, args, this.options.terminal ?? false);
  }

  private async wheels(): Promise<string[]> {
    return (await readdir(this.downloads)).filter(name => name.endsWith('.whl'));
  }

  private async fetchWheel(requirement: string, name: string): Promise<string> {
    const find = async () => (await this.wheels()).find(file => file.startsWith(name));
    if (!(await find())) {
      this.options.say(`Fetching ${requirement}.`);
      await this.fetchWheels([requirement]);
    }
    return join(this.downloads, (await find())!);
  }

  /** Unpacks a folder of a wheel that has the name of the result. */
  private async unpack(wheel: string, part: string, folder: string, beginnings: readonly string[]): Promise<void> {
    const around = `${part}.wheel`;
    await rm(around, {recursive: true, force: true});
    await this.python('unpacking a wheel', UNPACK, wheel, around, ...beginnings);
    await rename(join(around, folder), part);
    await rm(around, {recursive: true, force: true});
  }

  /** NVIDIA's libraries, next to TensorFlow, which looks for them there. */
  private async fetchNvidia(wheel: string): Promise<void> {
    await this.step(join(this.ready, 'nvidia'), "Fetching NVIDIA's libraries", async part => {
      const names = (await this.python('reading a wheel', GPU_PACKAGES, wheel)).trim().split('\n');
      if (names[0] === '') throw new ValueError(`Expected packages of NVIDIA in the wheel. Received: none: ${wheel}.`);
      await this.fetchWheels(names);
      const around = `${part}.wheels`;
      await rm(around, {recursive: true, force: true});
      for (const file of await this.wheels()) {
        if (!file.startsWith('nvidia')) continue;
        await this.python('unpacking a wheel', UNPACK, join(this.downloads, file), around, 'nvidia/');
      }
      await rename(join(around, 'nvidia'), part);
      await rm(around, {recursive: true, force: true});
    });
  }

  private async fetchPackage(name: string, part: string): Promise<void> {
    const packed = await this.call('the download', this.tools.npm, [
      ...['pack', '--silent', '--pack-destination', this.downloads],
      name,
    ]);
    const file = packed.trim().split('\n').at(-1)!;
    await mkdir(part, {recursive: true});
    await this.python('unpacking a package', UNTAR, join(this.downloads, file), part);
  }

  /** The two files of the binding, with the definitions that tfjs' own build gives them. */
  private async build(source: string, headers: string, part: string): Promise<void> {
    const tensorflow = join(this.ready, 'tensorflow');
    const files = ['tfjs_backend.cc', 'tfjs_binding.cc'].map(name => join(source, 'binding', name));
    const includes = [join(headers, 'include'), join(tensorflow, 'include'), source];
    const defined = [`NAPI_VERSION=${VERSIONS.napi}`, 'NODE_GYP_MODULE_NAME=tfjs_binding', 'BUILDING_NODE_EXTENSION'];
    const libraries = ['tensorflow_cc', 'tensorflow_framework'].map(name => `-l:lib${name}.so.2`);
    await this.call('the build', this.tools.compiler, [
      ...['-std=c++17', '-O2', '-fPIC', '-shared', '-w'],
      ...defined.map(name => `-D${name}`),
      ...includes.map(folder => `-I${folder}`),
      ...files,
      ...[`-L${tensorflow}`, ...libraries, '-Wl,-rpath,$ORIGIN/tensorflow', '-o', part],
    ]);
  }

  /** Multiplies matrices in a process of its own, which may crash. Returns the name of the device. */
  private async prove(): Promise<string> {
    const {variant} = this.options;
    const text = await this.call('a product of two matrices', process.execPath, [
      ...['-e', PROVE],
      join(this.ready, BINDING),
    ]);
    const found = JSON.parse(text.trim().split('\n').at(-1)!) as {gpu: boolean; version: string; error: number};
    if (found.version !== VERSIONS.tensorflow || !(found.error < 1e-3)) {
      throw new ValueError(
        `Expected TensorFlow ${VERSIONS.tensorflow} to multiply two matrices. Received: TensorFlow ${found.version}, wrong by ` +
          `${found.error}. Run the set-up again after \`gemma3 setup-cuda --remove\`.`,
      );
    }
    if (variant === 'gpu' && !found.gpu) {
      throw new ValueError(
        'Expected TensorFlow to find the GPU. Received: it runs on the CPU. Check the driver with `nvidia-smi`, which must be ' +
          'for CUDA 12 or newer, and run the set-up again; or add --cpu.',
      );
    }
    return found.gpu ? 'the GPU' : 'the CPU';
  }
}

/** Removes what was set up, or would be with `dryRun`, and what interrupted runs have left. */
export async function removeCuda(options: {
  dryRun?: boolean;
  say: (line: string) => void;
  root?: string;
}): Promise<void> {
  const {dryRun = false, say, root = cudaFolder()} = options;
  const names = existsSync(root) ? (await readdir(root)).filter(name => /^\.?tensorflow-/.test(name)) : [];
  if (names.length === 0) say('Nothing is set up.');
  for (const name of names) {
    const path = join(root, name);
    say(`${dryRun ? 'Would remove' : 'Removed'} ${path}`);
    if (!dryRun) await rm(path, {recursive: true, force: true});
  }
}
