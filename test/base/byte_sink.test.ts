/** Writing files into a folder: committed together, or aborted together; and JSON files. */
import {type FileSink, intoFile, intoFolder, writeAll} from '../../src/base/byte_sink';
import {ValueError} from '../../src/base/errors';
import {readJson, writeJson} from '../../src/base/json';
import {MemoryPreset} from '../../src/files/memory';

const failed = new Error('disk full');
const fail = () => Promise.reject(failed);

describe('intoFolder', () => {
  test('commits the written files and returns the result of `write`', async () => {
    const preset = new MemoryPreset([['old.json', new Uint8Array(1)]]);
    const result = await intoFolder(
      preset,
      async () => {
        await writeAll(preset, 'new.json', new Uint8Array(2));
        return 7;
      },
      path => path === 'old.json',
    );
    expect(result).toBe(7);
    expect([...preset.files.keys()]).toEqual(['new.json']);
  });

  test('aborts when writing or the commit fails', async () => {
    const preset = new MemoryPreset([['old.json', new Uint8Array(1)]]);
    const abort = jest.spyOn(preset, 'abort');
    await expect(intoFolder(preset, fail)).rejects.toBe(failed);
    jest.spyOn(preset, 'commit').mockImplementation(fail);
    await expect(intoFolder(preset, async () => {})).rejects.toBe(failed);
    expect(abort).toHaveBeenCalledTimes(2);
    expect([...preset.files.keys()]).toEqual(['old.json']);
  });
});

test('intoFile closes a file, and aborts when writing or closing fails', async () => {
  const calls: string[] = [];
  const call = (name: string) => async () => void calls.push(name);
  const sink: FileSink = {name: 'file', write: call('write'), close: call('close'), abort: call('abort')};
  expect(await intoFile(sink, async () => 7)).toBe(7);
  await expect(intoFile(sink, fail)).rejects.toBe(failed);
  await expect(intoFile({...sink, close: fail}, async () => {})).rejects.toBe(failed);
  expect(calls).toEqual(['close', 'abort', 'abort']);
});

describe('JSON', () => {
  test('is indented as in Python, and can be read back', async () => {
    const preset = new MemoryPreset();
    await intoFolder(preset, async () => {
      await writeJson(preset, 'a.json', {a: [1]});
      await writeJson(preset, 'b.json', {a: [1]}, 0);
    });
    const text = (path: string) => new TextDecoder().decode(preset.files.get(path));
    expect(text('a.json')).toBe('{\n    "a": [\n        1\n    ]\n}');
    expect(text('b.json')).toBe('{"a":[1]}');
    expect(await readJson(preset, 'a.json')).toEqual({a: [1]});
  });

  test('is refused if it is damaged', async () => {
    const preset = new MemoryPreset([['a.json', new TextEncoder().encode('{"a"')]], 'preset');
    await expect(readJson(preset, 'a.json')).rejects.toThrow(ValueError);
    await expect(readJson(preset, 'a.json')).rejects.toThrow(
      /^Expected JSON in "preset\/a\.json"\. Received: .+\. Fetch the file again\.$/,
    );
  });
});
