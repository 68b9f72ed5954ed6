/**
 * Trains LoRA on the prompts and responses in a CSV file, and asks the same questions before and after.
 *
 *     node dist/tune.js [PRESET] [DATA.csv]
 */
import {readFile} from 'node:fs/promises';
import {parse} from 'csv-parse/sync';
import {Gemma3CausalLM, optimizers, useBackend} from 'tfjs-gemma3';

const [preset = 'gemma3_tiny', data = 'capitals.csv'] = process.argv.slice(2);
const OUTPUT = 'tuned.lora.h5';

/** Not in the data: the model should learn how to answer, not what. */
const QUESTIONS = ['What is the capital of Peru?', 'What is the capital of Finland?'];

interface Example {
  prompt: string;
  response: string;
}

async function ask(lm: Gemma3CausalLM, when: string) {
  const answers = await lm.generate(QUESTIONS, {maxNewTokens: 24, stripPrompt: true});
  answers.forEach((answer, i) => console.log(`${when}: ${QUESTIONS[i]}${answer}`));
}

// All values are strings, and a space at the beginning of a response stays.
const examples = parse<Example>(await readFile(data), {columns: true});
const prompts = examples.map(({prompt}) => prompt);
const responses = examples.map(({response}) => response);

await useBackend();
const lm = await Gemma3CausalLM.fromPreset(preset);
await ask(lm, 'before');

lm.backbone.enableLora(8, {seed: 1});
// A rate for this small model. Larger ones need a lower one: 5e-4 for the 270M.
const optimizer = new optimizers.AdamW({learningRate: 5e-3, globalClipNorm: 1});
lm.compile({optimizer});
await lm.fit({prompts, responses}, {epochs: 10, batchSize: 4, seed: 1, verbose: 1});

await lm.backbone.saveLoraWeights(OUTPUT);
await lm.mergeLora(); // adds LoRA to the weights: full speed again
await ask(lm, 'after');
console.log(`The LoRA weights are in ${OUTPUT}.`);
lm.dispose();
optimizer.dispose();
