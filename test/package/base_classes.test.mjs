/** Base classes in a bundle that names no other class: each loads what a preset holds. */
import assert from 'node:assert/strict';
import {mkdtempSync, rmSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {test} from 'node:test';
import {fileURLToPath, pathToFileURL} from 'node:url';
import {build} from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

const CLASSES = {
  Backbone: 'Gemma3Backbone',
  CausalLM: 'Gemma3CausalLM',
  CausalLMPreprocessor: 'Gemma3CausalLMPreprocessor',
  Preprocessor: 'Gemma3CausalLMPreprocessor',
  SentencePieceTokenizer: 'Gemma3Tokenizer',
  Task: 'Gemma3CausalLM',
  TextEmbedder: 'Gemma3TextEmbedder',
  TextEmbedderPreprocessor: 'Gemma3TextEmbedderPreprocessor',
  Tokenizer: 'Gemma3Tokenizer',
};

for (const [base, expected] of Object.entries(CLASSES)) {
  test(`${base}.fromPreset gives a ${expected}`, async () => {
    // Next to the packages that it imports.
    const folder = mkdtempSync(join(root, 'dist', '.base-class-'));
    try {
      await build({
        stdin: {
          contents: `import * as tf from '@tensorflow/tfjs';
            import {${base}} from 'tfjs-gemma3';
            import 'tfjs-gemma3/presets/gemma3_tiny';
            export async function load() {
              await tf.setBackend('cpu');
              const loaded = await ${base}.fromPreset('gemma3_tiny');
              loaded.dispose?.();
              return [loaded.constructor.className, loaded instanceof ${base}];
            }`,
          resolveDir: root,
        },
        absWorkingDir: root,
        bundle: true,
        minify: true,
        splitting: true,
        format: 'esm',
        platform: 'browser',
        external: ['@tensorflow/tfjs', '@tensorflow/tfjs-backend-webgpu'],
        outdir: folder,
        outExtension: {'.js': '.mjs'},
        tsconfigRaw: '{}',
        logLevel: 'error',
      });
      const {load} = await import(pathToFileURL(join(folder, 'stdin.mjs')).href);
      assert.deepEqual(await load(), [expected, true]);
    } finally {
      rmSync(folder, {recursive: true});
    }
  });
}
