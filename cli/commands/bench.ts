/** `gemma3 bench`: measures how fast a preset loads and runs on this machine. */
import {cpus} from 'node:os';
import {setImmediate} from 'node:timers/promises';
import {type Command} from 'commander';
import type {BackendName, FromPresetOptions, Gemma3CausalLM} from 'tfjs-gemma3';
import {table} from '../support/format';
import {type Io, printJson} from '../support/io';
import {addHeaderOption, openingOf, type PresetOptions} from '../support/preset_options';
import {
  backendOption,
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
  threads?: number;
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
    .addOption(threadsOption())
    .option('--prompt <tokens>', 'length of the prompt', positiveInteger, 32)
    .option('--tokens <tokens>', 'number of tokens to generate', positiveInteger, 32)
    .option('--runs <number>', 'number of runs; the medians are shown', positiveInteger, 3)
    .option('--json', 'print one JSON object');
  addHeaderOption(command)
    .addHelpText('after', '\nExample:\n  $ gemma3 bench --preset ./gemma3_270m --tokens 64\n')
    .action((options: BenchOptions) => {
      refuseThreads(options, message => command.error(`error: ${message}`));
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

/** Generates tokens after a prompt. Returns the seconds of the prefill and the seconds per token. */
async function run(
  lm: Gemma3CausalLM,
  prompt: number[],
  tokens: number,
  signal: AbortSignal,
): Promise<[number, number]> {
  const cache = lm.newCache(1, prompt.length + tokens);
  const step = async (ids: number[]) => {
    signal.throwIfAborted();
    const logits = lm.nextLogits([ids], [ids.length], cache);
    const [token] = await lm.sampler.sample(logits);
    logits.dispose();
    // Otherwise Node would deliver no signal before the last run.
    await setImmediate();
    return token!;
  };
  try {
    const [first, prefill] = await timed(() => step(prompt));
    const [, decode] = await timed(async () => {
      let token = first;
      for (let i = 0; i < tokens; i++) token = await step([token]);
    });
    return [prefill, decode / tokens];
  } finally {
    cache.dispose();
  }
}

async function bench(options: BenchOptions, io: Io): Promise<void> {
  const {Gemma3CausalLM, useBackend} = await import('tfjs-gemma3');
  const before = megabytes();
  const backend = await useBackend(options.backend, options.threads ? {threads: options.threads} : {});
  const dtype = options.dtype === undefined ? {} : {dtype: options.dtype};
  const [model, load] = await timed(() =>
    Gemma3CausalLM.fromPreset(options.preset ?? TINY, {...openingOf(options), ...dtype, signal: io.signal}),
  );
  const memory = megabytes();
  const size = model.backbone.config.vocabularySize;
  const prompt = Array.from({length: options.prompt}, (_, i) => (2 + 37 * i) % size);
  const runs: [number, number][] = [];
  try {
    for (let i = 0; i < options.runs; i++) runs.push(await run(model, prompt, options.tokens, io.signal));
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
    loadSeconds: load,
    promptTokens: options.prompt,
    prefillSeconds: median(runs.map(([prefill]) => prefill)),
    tokensPerSecond: 1 / median(runs.map(([, decode]) => decode)),
    memoryMegabytes: memory,
    memoryBeforeMegabytes: before,
  };
  if (options.json) {
    printJson(io, result);
    return;
  }
  io.stdout.write(`${result.cpu}, ${result.cores} cores, Node ${result.node}, ${result.date}\n`);
  io.stdout.write(
    table([
      ['BACKEND', 'WEIGHTS', 'LOAD', `PROMPT (${options.prompt} TOKENS)`, 'TOKENS/S', 'MEMORY AFTER LOAD'],
      [
        backend,
        result.weights,
        `${load.toFixed(2)} s`,
        `${result.prefillSeconds.toFixed(3)} s`,
        result.tokensPerSecond.toFixed(2),
        `${memory} MB (${before} before)`,
      ],
    ]),
  );
}
