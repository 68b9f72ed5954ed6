/** The vision encoder of a GGUF file on Hugging Face: another file of the repository, by its name. */
import {Gemma3ImageConverter} from '../../src';
import {openCheckpoint} from '../../src/public/files';
import {fixtureBytes} from '../support/fixtures';
import {server} from '../support/hub_downloads';

const NAME = 'hf://owner/gemma-gguf';

test('is downloaded if it is named, or read by ranges', async () => {
  server.repositories['owner/gemma-gguf'] = {
    'tiny.gguf': fixtureBytes('gguf/tiny.gguf'),
    'mmproj-tiny.gguf': fixtureBytes('gguf/mmproj-tiny.gguf'),
  };
  const mmproj = `${NAME}/mmproj-tiny.gguf`;
  const ranged = await openCheckpoint(`${NAME}/tiny.gguf`, {mmproj, download: false});
  expect((await ranged.config('backbone'))!.config.image_size).toBe(64);
  await ranged.close();
  const converter = await Gemma3ImageConverter.fromPreset(`${NAME}/tiny.gguf`, {mmproj});
  expect(converter.imageSize).toEqual([64, 64]);
  // Once both are in the cache, the one is found next to the other.
  expect((await Gemma3ImageConverter.fromPreset(`${NAME}/tiny.gguf`, {offline: true})).imageSize).toEqual([64, 64]);
  await expect(Gemma3ImageConverter.fromPreset(`${NAME}/tiny.gguf`, {mmproj: NAME})).rejects.toThrow(
    /Name one of them: hf:\/\/owner\/gemma-gguf\/tiny\.gguf\. .*`mmproj`: hf:\/\/owner\/gemma-gguf\/mmproj-tiny\.gguf\.$/,
  );
});
