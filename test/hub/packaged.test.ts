/** Names of packaged presets, in a working directory with a folder of the same name. */
import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as platform from '#platform/files';
import {openPreset} from '../../src/hub/open_preset';

jest.mock('#platform/files', () => ({...jest.requireActual<object>('#platform/files'), __esModule: true}));

describe('gemma3_tiny', () => {
  const before = process.cwd();
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'gemma3-packaged-'));
    mkdirSync(join(folder, 'gemma3_tiny'));
    writeFileSync(join(folder, 'gemma3_tiny', 'mine'), '');
    process.chdir(folder);
  });
  afterAll(() => {
    process.chdir(before);
    rmSync(folder, {recursive: true});
  });
  afterEach(() => jest.restoreAllMocks());

  test('is the preset in the package', async () => {
    const preset = await openPreset('gemma3_tiny');
    expect([await preset.has('config.json'), await preset.has('mine')]).toEqual([true, false]);
  });

  test.each(['./gemma3_tiny', 'gemma3_tiny/'])('is a folder when written as a path: %s', async path => {
    const preset = await openPreset(path);
    expect([await preset.has('config.json'), await preset.has('mine')]).toEqual([false, true]);
  });

  test('is not a folder if the package lacks it', async () => {
    jest.spyOn(platform, 'packagedPreset').mockResolvedValue(undefined);
    await expect(openPreset('gemma3_tiny')).rejects.toThrow(
      'Expected the files of preset "gemma3_tiny". Received none: a bundle has only presets that the program imports. ' +
        "Add `import 'tfjs-gemma3/presets/gemma3_tiny'` to it, or serve the folder",
    );
  });

  test('is what the program imports, if it does', async () => {
    jest.spyOn(platform, 'packagedPreset').mockResolvedValue(undefined);
    const registry = Symbol.for('tfjs-gemma3.presets');
    const files = {'config.json': new Blob(['{"a": 1}'])};
    Object.assign(globalThis, {[registry]: {gemma3_tiny: async () => files}});
    try {
      const preset = await openPreset('gemma3_tiny');
      expect([await preset.has('config.json'), await preset.has('toString')]).toEqual([true, false]);
      const file = await preset.open('config.json');
      const bytes = new Uint8Array(file.size);
      await file.readInto(0, bytes);
      expect(new TextDecoder().decode(bytes)).toBe('{"a": 1}');
      await expect(preset.open('none')).rejects.toThrow('Expected file "none" in preset "gemma3_tiny".');
    } finally {
      Reflect.deleteProperty(globalThis, registry);
    }
  });
});
