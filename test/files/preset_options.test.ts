/** Options for requests, where a preset is only a name, and where its weights are in another file. */
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import {openCheckpoint} from '../../src/checkpoints/open_checkpoint';
import {type FetchOptions} from '../../src/files/http_client';
import {MemoryFile} from '../../src/files/memory';
import {Backbone} from '../../src/models/backbone';
import {CausalLM} from '../../src/models/causal_lm';
import {Gemma3Backbone} from '../../src/models/gemma3/gemma3_backbone';
import {Gemma3CausalLM} from '../../src/models/gemma3/gemma3_causal_lm';
import {Gemma3TextEmbedder} from '../../src/models/gemma3/gemma3_text_embedder';
import {withFiles} from '../support/file_server';
import {fixture} from '../support/fixtures';

const TINY = 'presets/gemma3_tiny';
const NAME = 'gemma3_270m';
const headers = {authorization: 'Bearer abc'};

describe('of a name of which only the configuration is used', () => {
  const classes = [Gemma3Backbone, Gemma3CausalLM, Gemma3TextEmbedder, Backbone, CausalLM] as const;
  test.each(classes.map(cls => [cls.className, cls] as const))('%s', async (_, cls) => {
    const load = (options: FetchOptions) => cls.fromPreset(NAME, {...options, loadWeights: false});
    const message = (what: string) =>
      `Expected ${what} only with the http(s) address of a preset whose files are read. Received: "${NAME}"`;
    await expect(load({headers})).rejects.toThrow(message('headers'));
    await expect(load({fetch})).rejects.toThrow(message('fetch'));
    await expect(load({headers, fetch})).rejects.toThrow(message('headers and fetch'));
    // Nothing is requested and nothing is downloaded, which these allow.
    (await load({offline: true, onDownload: () => {}})).dispose();
  });

  test('with weights in another file, whose server gets no headers', async () => {
    const load = (options: object) => Gemma3Backbone.fromPreset(NAME, options);
    const message = 'with the http(s) address of a preset whose files are read';
    await expect(load({weights: 'x.weights.h5', headers})).rejects.toThrow(`Expected headers only ${message}`);
    await expect(load({weights: 'x.weights.h5', fetch})).rejects.toThrow(`Expected fetch only ${message}`);
    await expect(load({weights: 'http://x.invalid/x.weights.h5', headers})).rejects.toThrow('Expected headers only');
    const asked: string[] = [];
    const failing: typeof fetch = async input => {
      asked.push(String(input));
      return new Response(null, {status: 404});
    };
    await expect(load({weights: 'http://x.invalid/x.weights.h5', fetch: failing})).rejects.toThrow('404');
    expect(asked[0]).toBe('http://x.invalid/x.weights.h5');
  });
});

test('weights on the server of the preset get its headers, of every class; those on others do not', async () => {
  const source = await Gemma3Backbone.fromPreset(TINY);
  const file = new MemoryFile('x.weights.h5');
  await source.saveWeights(file);
  source.dispose();
  const paths = ['config.json', 'task.json', 'preprocessor.json', 'tokenizer.json', 'image_converter.json'];
  paths.push('assets/tokenizer/vocabulary.spm');
  const files = Object.fromEntries(paths.map(path => [`tiny/${path}`, new Uint8Array(readFileSync(join(TINY, path)))]));
  // A preset without weights of its own.
  const served = {...files, 'tiny/model.weights.h5': Uint8Array.of(1), 'x.weights.h5': file.bytes};
  await withFiles(served, {authorization: headers.authorization}, async ({address}) => {
    const weights = `${address}/x.weights.h5`;
    const preset = `${address}/tiny`;
    for (const cls of [Gemma3Backbone, Gemma3CausalLM, Gemma3TextEmbedder, Backbone, CausalLM]) {
      (await cls.fromPreset(preset, {weights, headers})).dispose();
    }
    const checkpoint = await openCheckpoint(preset, {headers});
    (await Gemma3CausalLM.fromPreset(checkpoint, {weights})).dispose();
    await checkpoint.close();
    await withFiles(served, {authorization: headers.authorization}, async other => {
      const elsewhere = Gemma3CausalLM.fromPreset(preset, {weights: `${other.address}/x.weights.h5`, headers});
      await expect(elsewhere).rejects.toThrow('Received: HTTP 401.');
    });
  });
});

test('of an open preset, headers are refused', async () => {
  const checkpoint = await openCheckpoint(fixture('backbone/defaults'));
  await expect(Gemma3Backbone.fromPreset(checkpoint, {headers})).rejects.toThrow('Expected headers only');
  await checkpoint.close();
});
