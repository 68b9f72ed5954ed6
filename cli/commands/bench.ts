/** `gemma3 bench`: measures how fast a preset loads and runs on this machine. */
import {cpus} from 'node:os';
import {type Command} from 'commander';
import type {BackendName, CacheDtype, FromPresetOptions, Gemma3CausalLM} from 'tfjs-gemma3';
import {table} from '../support/format';
import {gpuReport, type GpuResult, startGpuMeter} from '../support/gpu_meter';
import {type Io, printJson} from '../support/io';
import {addHeaderOption, openingOf, type PresetOptions} from '../support/preset_options';
import {
  backendOption,
  cacheDtypeOption,
  type Choices,
  dtypeOption,
  positiveInteger,
  presetOption,
  refuseThreads,
  threadsOption,
  TINY,
} from '../support/options';

interface BenchOptions extends Pick<PresetOptions, 'header'> {
  preset?: string;
  backend: BackendName;
  dtype?: FromPresetOptions['dtype'];
  cacheDtype: CacheDtype;
  threads?: number;
  software?: boolean;
  prompt: number;
  tokens: number;
  runs: number;
  json?: boolean;
}

export function addBench(program: Command, io: Io, {backends}: Choices): void {
  const command = program
    .command('bench')
    .description('measure load time, speed and memory of a preset')
    .addOption(presetOption())
    .addOption(backendOption(backends))
    .addOption(dtypeOption())
    .addOption(cacheDtypeOption())
    .addOption(threadsOption())
    .option('--software', 'accept an adapter that computes on the CPU, for the backend webgpu')
    .option('--prompt <tokens>', 'length of the prompt', positiveInteger, 32)
    .option('--tokens <tokens>', 'number of tokens to generate', positiveInteger, 32)
    .option('--runs <number>', 'number of runs; the medians are shown', positiveInteger, 3)
    .option('--json', 'print one JSON object');
  addHeaderOption(command)
    .addHelpText('after', '\nExample:\n  $ gemma3 bench --preset ./gemma3_270m --tokens 64\n')
    .action((options: BenchOptions) => {
      refuseThreads(options, message => command.error(`error: ${message}`));
      if (options.software && options.backend !== 'webgpu') {
        command.error("error: option '--software' has an effect only with '--backend webgpu'. Leave it out.");
      }
      return bench(options, io);
    });
}

const megabytes = () => Math.round(process.memoryUsage().rss / 1e6);
const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** Runs `work`. Returns its result and the seconds it took. */
async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const start = performance.now();
  const result = await work();
  return [result, (performance.now() - start) / 1000];
}

interface Run {
  /** Seconds until the first token, and for each later one. */
  prefill: number;
  decode: number;
}

/**
 * Generates tokens after a prompt, in the loop of `generate`: what its caller waits for.
 *
 * @param decoding called with the first token, and with the last one.
 */
async function run(
  lm: Gemma3CausalLM,
  prompt: number[],
  tokens: number,
  signal: AbortSignal,
  decoding: (what: 'begins' | 'ends') => void,
): Promise<Run> {
  const options = {maxLength: prompt.length + tokens + 1, stopTokenIds: null, signal};
  const start = performance.now();
  let first = 0;
  let count = 0;
  for await (const _ of lm.steps([{tokens: prompt}], options)) {
    if (count++ > 0) continue;
    first = performance.now();
    decoding('begins');
  }
  const end = performance.now();
  decoding('ends');
  return {prefill: (first - start) / 1000, decode: (end - first) / 1000 / (count - 1)};
}

async function bench(options: BenchOptions, io: Io): Promise<void> {
  const {Gemma3CausalLM, useBackend} = await import('tfjs-gemma3');
  const before = megabytes();
  const {threads, software} = options;
  const backend = await useBackend(options.backend, {...(threads && {threads}), ...(software && {software})});
  const {cacheDtype} = options;
  const dtypes = {cacheDtype, ...(options.dtype !== undefined && {dtype: options.dtype})};
  const [model, load] = await timed(() =>
    Gemma3CausalLM.fromPreset(options.preset ?? TINY, {...openingOf(options), ...dtypes, signal: io.signal}),
  );
  const memory = megabytes();
  const size = model.backbone.config.vocabularySize;
  const prompt = Array.from({length: options.prompt}, (_, i) => (2 + 37 * i) % size);
  const runs: Run[] = [];
  let gpu: GpuResult | undefined;
  try {
    const meter = await startGpuMeter(backend, model);
    for (let i = 0; i < options.runs; i++) {
      runs.push(await run(model, prompt, options.tokens, io.signal, what => meter?.[what]()));
    }
    gpu = await meter?.result(options.tokens, median(runs.map(({decode}) => decode)));
  } finally {
    model.dispose();
  }
  const result = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
    backend,
    weights: model.backbone.config.dtype,
    cache: cacheDtype,
    loadSeconds: load,
    promptTokens: options.prompt,
    prefillSeconds: median(runs.map(({prefill}) => prefill)),
    tokensPerSecond: 1 / median(runs.map(({decode}) => decode)),
    memoryMegabytes: memory,
    memoryBeforeMegabytes: before,
    ...(gpu && {gpu}),
  };
  if (options.json) {
    printJson(io, result);
    return;
  }
  io.stdout.write(`${result.cpu}, ${result.cores} cores, Node ${result.node}, ${result.date}\n`);
  io.stdout.write(
    table([
      ['BACKEND', 'WEIGHTS', 'CACHE', 'LOAD', `PROMPT (${options.prompt} TOKENS)`, 'TOKENS/S', 'MEMORY AFTER LOAD'],
      [
        backend,
        result.weights,
        result.cache,
        `${load.toFixed(2)} s`,
        `${result.prefillSeconds.toFixed(3)} s`,
        result.tokensPerSecond.toFixed(2),
        `${memory} MB (${before} before)`,
      ],
    ]),
  );
  if (gpu) io.stdout.write(gpuReport(gpu));
}
