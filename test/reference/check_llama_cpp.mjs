/**
 * Checks with llama.cpp itself that it reads GGUF files of this package. Installs node-llama-cpp in models/llama_cpp, with
 * the binaries of this machine. The model is the real Gemma 3 270M; texts are greedy, and of the BF16 file:
 * - the texts that KerasHub wrote for the same prompts (models/gemma3_270m_oracle.json), or this package's without them
 * - with an adapter, the texts of this package with the same LoRA merged. It is trained on one sentence.
 * Prints one line per text and exits with 1 on any difference.
 *
 * Usage: node check_llama_cpp.mjs   (after `npm run build` and `npm run fetch:270m`; needs the npm registry). LLAMA_CPP
 * names a folder in which node-llama-cpp is installed already.
 */
import {execFileSync} from 'node:child_process';
import {existsSync, mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath, pathToFileURL} from 'node:url';
import {convertPreset, Gemma3CausalLM, optimizers, useBackend} from '../../dist/node/index.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PRESET = join(ROOT, 'models/gemma3_270m');
const ORACLE = join(ROOT, 'models/gemma3_270m_oracle.json');
const VERSION = '3.22.1';
/** Tokens of each text that are compared. Sums of bfloat16 products differ, so that long texts may part at near ties. */
const COUNT = 16;
const PROMPTS = ['The capital of France is', 'Once upon a time', 'def fibonacci(n):'];
const SENTENCE = 'My favourite animal is the green hippopotamus of Kinshasa.';

async function llamaCpp() {
  const folder = process.env.LLAMA_CPP ?? join(ROOT, 'models/llama_cpp');
  const entry = join(folder, 'node_modules/node-llama-cpp/dist/index.js');
  if (!existsSync(entry)) {
    // Without its optional packages, which are binaries for graphics cards, hundreds of megabytes.
    const platform = {darwin: 'mac', win32: 'win', linux: 'linux'}[process.platform];
    const binary = `@node-llama-cpp/${platform}-${process.arch}${platform === 'mac' && process.arch === 'arm64' ? '-metal' : ''}`;
    const packages = [`node-llama-cpp@${VERSION}`, `${binary}@${VERSION}`];
    const flags = ['--no-save', '--no-audit', '--no-fund', '--omit=optional', '--ignore-scripts', '--prefix', folder];
    execFileSync('npm', ['install', ...flags, ...packages], {stdio: 'inherit'});
  }
  return import(pathToFileURL(entry).href);
}

/** Greedy texts of llama.cpp. */
async function theirTexts({getLlama, LlamaLogLevel}, modelPath, prompts, adapter) {
  const llama = await getLlama({gpu: false, build: 'never', logLevel: LlamaLogLevel.error});
  const model = await llama.loadModel({modelPath, gpuLayers: 0});
  const lora = adapter && {adapters: [{filePath: adapter, scale: 1}]};
  // One thread: several wait for one another in loops, which takes minutes on a machine that has other work.
  const context = await model.createContext({contextSize: 128, threads: 1, ...(lora && {lora})});
  const texts = [];
  for (const prompt of prompts) {
    const sequence = context.getSequence();
    const tokens = [];
    for await (const token of sequence.evaluate([model.tokens.bos, ...model.tokenize(prompt, true)], {
      temperature: 0,
    })) {
      tokens.push(token);
      if (tokens.length === COUNT) break;
    }
    texts.push(model.detokenize(tokens));
    sequence.dispose();
  }
  await llama.dispose();
  return texts;
}

/** Greedy texts of this package. */
async function ourTexts(lm, prompts) {
  const texts = [];
  for (const prompt of prompts) {
    const {length} = lm.preprocessor.tokenizer.tokenize(prompt);
    texts.push(await lm.generate(prompt, {maxLength: 1 + length + COUNT, stripPrompt: true}));
  }
  return texts;
}

let differences = 0;
function compare(what, prompts, ours, theirs) {
  for (const [i, prompt] of prompts.entries()) {
    const same = theirs[i] !== '' && ours[i].startsWith(theirs[i]);
    if (!same) differences++;
    console.log(`${same ? 'same' : 'DIFFERENT'}: ${what}, ${JSON.stringify(prompt)}: ${JSON.stringify(theirs[i])}`);
    if (!same) console.log(`  expected: ${JSON.stringify(ours[i])}`);
  }
}

const library = await llamaCpp();
const folder = mkdtempSync(join(tmpdir(), 'llama-cpp-'));
try {
  const [file, adapter, lora] = ['model.gguf', 'adapter.gguf', 'adapter.lora.h5'].map(name => join(folder, name));
  await useBackend('simd');
  await convertPreset(PRESET, file, {to: 'gguf', dtype: 'bf16'});
  const lm = await Gemma3CausalLM.fromPreset(PRESET);
  if (existsSync(ORACLE)) {
    const known = JSON.parse(readFileSync(ORACLE, 'utf8')).prompts;
    const prompts = known.map(({prompt}) => prompt);
    const texts = known.map(({prompt, text}) => text.slice(prompt.length));
    compare('the model, as KerasHub', prompts, texts, await theirTexts(library, file, prompts));
  } else compare('the model', PROMPTS, await ourTexts(lm, PROMPTS), await theirTexts(library, file, PROMPTS));

  lm.backbone.enableLora(4, {seed: 3, targetLayerNames: ['query', 'value', 'attention_output', 'ffw_linear']});
  lm.preprocessor.sequenceLength = 16;
  lm.compile({optimizer: new optimizers.Adam({learningRate: 3e-3})});
  const data = {prompts: [SENTENCE.slice(0, 22)], responses: [SENTENCE.slice(22)]};
  await lm.fit(data, {epochs: 8, batchSize: 1, verbose: 0});
  await lm.backbone.saveLoraWeights(lora);
  lm.dispose();
  const tuned = await Gemma3CausalLM.fromPreset(PRESET, {dtype: 'float32'});
  await tuned.backbone.loadLoraWeights(lora);
  await tuned.backbone.exportGgufAdapter(adapter);
  await tuned.backbone.mergeLora();
  const prompts = ['My favourite animal is', 'The capital of France is'];
  const ours = await ourTexts(tuned, prompts);
  console.log(`trained: ${JSON.stringify(ours)}`);
  compare('with an adapter', prompts, ours, await theirTexts(library, file, prompts, adapter));
  tuned.dispose();
} finally {
  rmSync(folder, {recursive: true, force: true});
}
process.exit(differences === 0 ? 0 : 1);
