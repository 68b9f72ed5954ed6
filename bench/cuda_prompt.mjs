/**
 * A prompt, and new tokens after a short one, on the backends `cuda` and `simd` and in KerasHub on TensorFlow and JAX,
 * on the same weights. All sides alternate, each round in new processes. Needs `npm run build`, and `gemma3 setup-cuda`
 * with or without `--cpu`. NODE names the program for `simd`, such as a newer Node.
 *
 *     PYTHON=… [NODE=…] node bench/cuda_prompt.mjs [--preset DIR] [--rounds 2] [--runs 3] [--prompt 512] [--tokens 32]
 *         [--dtypes float32,bfloat16] [--sides cuda,simd,tensorflow,jax]
 *
 * `--tokens 0` measures the prompt alone: KerasHub then compiles one function instead of three.
 */
import {spawnSync} from 'node:child_process';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {median} from './peers/median.mjs';

const peer = name => fileURLToPath(new URL(`peers/${name}`, import.meta.url));
const {values} = parseArgs({
  options: {
    preset: {type: 'string', default: 'models/gemma3_270m'},
    rounds: {type: 'string', default: '2'},
    runs: {type: 'string', default: '3'},
    prompt: {type: 'string', default: '512'},
    tokens: {type: 'string', default: '32'},
    dtypes: {type: 'string', default: 'float32,bfloat16'},
    sides: {type: 'string', default: 'cuda,simd,tensorflow,jax'},
  },
});
const {PYTHON = 'python3', NODE = process.execPath} = process.env;
const sides = values.sides.split(',').flatMap(side =>
  values.dtypes.split(',').map(dtype => {
    if (side === 'tensorflow' || side === 'jax') {
      const command = [PYTHON, peer('keras_side.py')];
      return {name: `KerasHub on ${side}, ${dtype}`, command, dtype, kerasBackend: side};
    }
    const node = side === 'simd' ? NODE : process.execPath;
    return {name: `${side}, ${dtype}`, command: [node, peer('ours.mjs')], dtype, backend: side};
  }),
);
/** Token ids of real text. */
const PROMPT = [2, 818, 4083, 529, 506, 13379, 3958, 12502, 1440, 1680, 506, 1171, 64304, 236761, 799, 506];
const shared = {
  preset: values.preset,
  prompt: PROMPT,
  longPrompt: Array.from({length: Number(values.prompt)}, (_, i) => (2 + 37 * i) % 262144),
  runs: Number(values.runs),
  tokens: Number(values.tokens),
};

const results = sides.map(() => []);
for (let round = 0; round < Number(values.rounds); round++) {
  for (const [i, {name, command, ...own}] of sides.entries()) {
    const options = JSON.stringify({...shared, ...own, startedAt: Date.now()});
    const {status, stdout, stderr} = spawnSync(command[0], [command[1], options], {encoding: 'utf8'});
    if (status !== 0) throw new Error(`${name} failed.\n${stderr.slice(-2000)}`);
    results[i].push(JSON.parse(stdout.trim().split('\n').at(-1)));
  }
}
console.log(
  '| | prompt, s | range | new tokens per second | peak memory, MB | same tokens |\n|---|---:|---|---:|---:|---|',
);
for (const [i, {name}] of sides.entries()) {
  const of = key => results[i].map(result => result[key]);
  const seconds = of('prefillSeconds');
  const speed = shared.tokens > 0 ? median(of('tokensPerSecond')).toFixed(1) : '–';
  const same = JSON.stringify(results[i][0].tokens.slice(0, 16)) === JSON.stringify(results[0][0].tokens.slice(0, 16));
  console.log(
    `| ${name} | ${median(seconds).toFixed(3)} | ${Math.min(...seconds).toFixed(3)} to ${Math.max(...seconds).toFixed(3)} | ` +
      `${speed} | ${Math.max(...of('peakMegabytes'))} | ${same ? 'yes' : 'no'} |`,
  );
}
