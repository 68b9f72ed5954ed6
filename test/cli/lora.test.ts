/** The option `--lora` of `generate`, `chat` and `convert`. */
import {mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, useBackend} from '../../src';
import {run, TINY} from './run';

const PROMPT = 'What is the capital of France?';
const root = mkdtempSync(join(tmpdir(), 'gemma3-lora-'));
afterAll(() => rmSync(root, {recursive: true}));
const file = join(root, 'a.lora.h5');
/** The model's answers with LoRA and without. */
let adapted: string;
let plain: string;

beforeAll(async () => {
  await useBackend('simd');
  const lm = await Gemma3CausalLM.fromPreset(TINY, {dtype: 'float32'});
  plain = await lm.generate(PROMPT, {maxLength: 30});
  lm.backbone.enableLora(2, {alpha: 6});
  tf.tidy(() => {
    lm.trainableWeights.forEach((weight, i) =>
      weight.write(tf.randomNormal(weight.shape as number[], 0, 0.5, 'float32', i + 1)),
    );
  });
  await lm.backbone.saveLoraWeights(file);
  adapted = await lm.generate(PROMPT, {maxLength: 30});
  lm.dispose();
});

test('generate', async () => {
  const before = tf.memory().numTensors;
  const options = ['--max-length', '30', '--dtype', 'float32'];
  expect((await run(['generate', PROMPT, ...options, '--lora', file])).stdout).toBe(`${adapted}\n`);
  expect((await run(['generate', PROMPT, ...options])).stdout).toBe(`${plain}\n`);
  expect(adapted).not.toBe(plain);
  expect(tf.memory().numTensors).toBe(before);
});

test('chat', async () => {
  const options = {stdin: `${PROMPT}\n`};
  const answer = async (...more: string[]) =>
    (await run(['chat', '--dtype', 'float32', '--max-new-tokens', '12', ...more], options)).stdout;
  expect(await answer('--lora', file)).not.toBe(await answer());
});

test.each(['keras', 'tfjs'])('convert to %s', async to => {
  const out = join(root, to);
  const before = tf.memory().numTensors;
  const {code, stderr} = await run(['convert', TINY, out, '--to', to, '--dtype', 'float32', '--lora', file]);
  expect({code, stderr}).toEqual({code: 0, stderr: ''});
  expect(tf.memory().numTensors).toBe(before);
  const lm = await Gemma3CausalLM.fromPreset(out);
  expect(lm.backbone.loraEnabled).toBe(false);
  expect(await lm.generate(PROMPT, {maxLength: 30})).toBe(adapted);
  lm.dispose();
});

test('reports a missing file, and leaves no tensors behind', async () => {
  const before = tf.memory().numTensors;
  for (const argv of [
    ['generate', PROMPT],
    ['convert', TINY, join(root, 'none'), '--to', 'keras'],
  ]) {
    const missing = await run([...argv, '--lora', join(root, 'none.lora.h5')]);
    expect(missing).toMatchObject({code: 1, stdout: ''});
    expect(missing.stderr).toMatch(/Expected the path of a file\. Received: ".*none\.lora\.h5", where no file exists/);
    const other = await run([...argv, '--lora', join(root, 'a.h5')]);
    expect(other.stderr).toMatch(/The filename must end in `\.lora\.h5`/);
  }
  expect(tf.memory().numTensors).toBe(before);
});
