/** The option `mmproj`: a GGUF file whose vision encoder is elsewhere. */
import {readFileSync} from 'node:fs';
import {
  Backbone,
  CausalLM,
  convertPreset,
  Gemma3Backbone,
  Gemma3CausalLM,
  Gemma3CausalLMPreprocessor,
  Gemma3ImageConverter,
  Gemma3TextEmbedder,
  Gemma3Tokenizer,
  ImageConverter,
  Tokenizer,
} from '../../../src';
import {MemoryPreset, openCheckpoint} from '../../../src/public/files';
import {fixture, fixtureBytes, TINY_PRESET, tinyPicture} from '../../support/fixtures';
import {withFiles} from '../../support/file_server';

const GGUF = fixture('gguf');
const MMPROJ = `${GGUF}/mmproj-tiny.gguf`;
/** The model alone. */
const model = () => new MemoryPreset([['tiny.gguf', fixtureBytes('gguf/tiny.gguf')]]);

/** The patch embedding of the vision encoder. */
async function patches(backbone: Backbone | Gemma3Backbone): Promise<number[]> {
  const weight = backbone.weights.find(({originalName}) =>
    /patch_conv|patch_embedding|embedding_conv/.test(originalName),
  )!;
  const tensor = weight.read();
  const values = Array.from(await tensor.data());
  tensor.dispose();
  backbone.dispose();
  return values;
}

test('every class that reads images takes it, in each form of a file', async () => {
  const expected = await patches(await Gemma3Backbone.fromPreset(TINY_PRESET));
  const bytes = new Uint8Array(readFileSync(MMPROJ));
  for (const mmproj of [MMPROJ, new URL(`file://${MMPROJ}`), bytes, new Blob([bytes])]) {
    expect(await patches(await Gemma3Backbone.fromPreset(model(), {mmproj}))).toEqual(expected);
  }
  expect(await patches(await Backbone.fromPreset(model(), {mmproj: bytes}))).toEqual(expected);
  for (const cls of [Gemma3CausalLM, CausalLM] as (typeof Gemma3CausalLM)[]) {
    const lm = await cls.fromPreset(model(), {mmproj: MMPROJ});
    const text = await lm.generate({
      prompts: 'What is in this image? <start_of_image>',
      images: tinyPicture('red_circle'),
    });
    expect(text).toMatch(/A red circle\.$/);
    lm.dispose();
  }
  const own = await Gemma3ImageConverter.fromPreset(TINY_PRESET);
  for (const cls of [Gemma3ImageConverter, ImageConverter]) {
    expect((await cls.fromPreset(model(), {mmproj: MMPROJ})).imageSize).toEqual(own.imageSize);
  }
  const preprocessor = await Gemma3CausalLMPreprocessor.fromPreset(model(), {mmproj: MMPROJ});
  expect(preprocessor.imageSize).toEqual(own.imageSize);
  // A backbone of its own still needs what images need.
  const backbone = await Gemma3Backbone.fromPreset(TINY_PRESET);
  const lm = await Gemma3CausalLM.fromPreset(model(), {backbone, mmproj: MMPROJ});
  expect(lm.preprocessor!.imageConverter).not.toBeNull();
  for (const one of [lm, backbone]) one.dispose();
});

test('a preset in another format has the encoder', async () => {
  const [ours, theirs] = [new MemoryPreset(), new MemoryPreset()];
  await convertPreset(model(), ours, {to: 'keras', mmproj: MMPROJ});
  await convertPreset(TINY_PRESET, theirs, {to: 'keras'});
  const sizes = (preset: MemoryPreset) =>
    (JSON.parse(Buffer.from(preset.files.get('image_converter.json')!).toString()) as {config: object}).config;
  expect(sizes(ours)).toMatchObject({image_size: [64, 64]});
  expect(sizes(theirs)).toMatchObject({image_size: [64, 64]});
  expect(await patches(await Gemma3Backbone.fromPreset(ours))).toEqual(
    await patches(await Gemma3Backbone.fromPreset(theirs)),
  );
});

test('headers go to the server of the model, and to no other one', async () => {
  const authorization = 'Bearer secret';
  const headers = {authorization};
  const files = {
    'tiny.gguf': fixtureBytes('gguf/tiny.gguf'),
    'mmproj-tiny.gguf': fixtureBytes('gguf/mmproj-tiny.gguf'),
  };
  await withFiles(files, {authorization}, async home => {
    const mmproj = `${home.address}/mmproj-tiny.gguf`;
    const converter = await Gemma3ImageConverter.fromPreset(`${home.address}/tiny.gguf`, {mmproj, headers});
    expect(converter.imageSize).toEqual([64, 64]);
    // The other server would answer only to them.
    await withFiles(files, {authorization}, async other => {
      const elsewhere = `${other.address}/mmproj-tiny.gguf`;
      const failed = Gemma3ImageConverter.fromPreset(`${home.address}/tiny.gguf`, {mmproj: elsewhere, headers});
      await expect(failed).rejects.toThrow(/401/);
      expect(other.log.length).toBeGreaterThan(0);
    });
  });
});

test('where it means nothing, it is refused', async () => {
  const refused = (run: Promise<unknown>, message: string | RegExp) => expect(run).rejects.toThrow(message);
  const given: Record<string, unknown> = {mmproj: MMPROJ};
  const none = /has no argument "mmproj"/;
  await refused(Gemma3Tokenizer.fromPreset(model(), given), none);
  await refused(Tokenizer.fromPreset(model(), given), none);
  await refused(Gemma3TextEmbedder.fromPreset(model(), given), none);
  const keras = /`mmproj` only with a GGUF file.*Received: "/;
  await refused(Gemma3CausalLM.fromPreset(TINY_PRESET, given), keras);
  await refused(convertPreset(TINY_PRESET, new MemoryPreset(), {to: 'keras', ...given}), keras);
  await refused(Gemma3Backbone.fromPreset('gemma3_4b', {loadWeights: false, ...given}), keras);
  await refused(Gemma3CausalLM.fromPreset('gemma3_4b', {loadWeights: false, ...given}), keras);
  const checkpoint = await openCheckpoint(model());
  await refused(Gemma3CausalLM.fromPreset(checkpoint, given), 'which is open: pass it to `files.openCheckpoint');
  await checkpoint.close();
  await refused(openCheckpoint(model(), {mmproj: `${GGUF}/text.gguf`}), 'Expected the vision encoder of "tiny.gguf"');
  await refused(openCheckpoint(model(), {mmproj: 'missing.gguf'}), 'missing.gguf');
});

test('of several files next to a model, one must be named', async () => {
  const folder = model();
  for (const name of ['mmproj-a.gguf', 'mmproj-b.gguf']) folder.files.set(name, fixtureBytes('gguf/mmproj-tiny.gguf'));
  await expect(Gemma3Backbone.fromPreset(folder)).rejects.toThrow(
    'Received: mmproj-a.gguf, mmproj-b.gguf. Pass one of them as `mmproj`',
  );
  const backbone = await Gemma3Backbone.fromPreset(folder, {mmproj: folder.files.get('mmproj-b.gguf')!});
  expect(backbone.textOnlyModel).toBe(false);
  backbone.dispose();
});
