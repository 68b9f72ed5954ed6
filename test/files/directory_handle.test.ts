/** Browser folders, simulated by objects that behave like the File System API. */
import {Gemma3Tokenizer} from '../../src';
import {DirectoryHandlePreset} from '../../src/public/files';

const missing = (name: string) => Object.assign(new Error(`no ${name}`), {name: 'NotFoundError'});

class FakeFile {
  readonly kind = 'file';
  bytes = new Uint8Array(0);
  /** Open streams: neither closed nor aborted. */
  open = 0;
  async getFile(): Promise<Blob> {
    return new Blob([this.bytes]);
  }
  async createWritable(): Promise<object> {
    const pieces: Uint8Array[] = [];
    this.open += 1;
    return {
      write: async (bytes: Uint8Array) => void pieces.push(bytes.slice()),
      close: async () => {
        this.open -= 1;
        this.bytes = new Uint8Array(Buffer.concat(pieces));
      },
      abort: async () => void (this.open -= 1),
    };
  }
}

class FakeDirectory {
  readonly kind = 'directory';
  readonly files = new Map<string, FakeFile | FakeDirectory>();
  constructor(readonly name = '') {}
  private async get<T extends FakeFile | FakeDirectory>(name: string, create: boolean, make: () => T): Promise<T> {
    if (!this.files.has(name) && create) this.files.set(name, make());
    const found = this.files.get(name) as T | undefined;
    if (!found) throw missing(name);
    return found;
  }
  getFileHandle = (name: string, {create = false} = {}) => this.get(name, create, () => new FakeFile());
  getDirectoryHandle = (name: string, {create = false} = {}) => this.get(name, create, () => new FakeDirectory(name));
  removeEntry = async (name: string) => {
    if (!this.files.delete(name)) throw missing(name);
  };
  async *keys(): AsyncGenerator<string> {
    yield* this.files.keys();
  }
  async *entries(): AsyncGenerator<[string, FakeFile | FakeDirectory]> {
    yield* this.files.entries();
  }
}

const folder = () => {
  const directory = new FakeDirectory('presets');
  return {directory, handle: directory as unknown as FileSystemDirectoryHandle};
};

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
async function put(preset: DirectoryHandlePreset, path: string, content: string): Promise<void> {
  const file = await preset.create(path);
  await file.write(new TextEncoder().encode(content));
  await file.close();
}
async function read(preset: DirectoryHandlePreset, path: string): Promise<string> {
  const file = await preset.open(path);
  const bytes = new Uint8Array(file.size);
  await file.readInto(0, bytes);
  return text(bytes);
}

test('contains the committed files and the old ones', async () => {
  const {handle} = folder();
  const preset = new DirectoryHandlePreset(handle);
  expect(preset.name).toBe('presets');
  await put(preset, 'a.json', 'old');
  await put(preset, 'stale.h5', 'old');
  await preset.commit(() => false);
  await put(preset, 'a.json', 'new');
  await put(preset, 'assets/tokenizer/b', 'deep');
  expect(await read(preset, 'a.json')).toBe('old');
  await preset.commit(path => path === 'stale.h5' || path === 'a.json');
  expect(await read(preset, 'a.json')).toBe('new');
  expect(await read(preset, 'assets/tokenizer/b')).toBe('deep');
  expect([await preset.has('assets/tokenizer/b'), await preset.has('stale.h5'), await preset.has('c/d')]).toEqual([
    true,
    false,
    false,
  ]);
  await expect(preset.open('stale.h5')).rejects.toThrow('Expected file "stale.h5" in folder "presets"');
});

test('is unchanged after an abort', async () => {
  const {directory, handle} = folder();
  const preset = new DirectoryHandlePreset(handle);
  await put(preset, 'a', 'old');
  await preset.commit(() => false);
  await put(preset, 'a', 'new');
  await put(preset, 'fresh', 'new');
  await preset.abort();
  expect(await read(preset, 'a')).toBe('old');
  expect([...directory.files.keys()]).toEqual(['a']);
  expect((directory.files.get('a') as FakeFile).open).toBe(0);
});

test('takes the files of saveToPreset, given as a handle', async () => {
  const {handle} = folder();
  const tokenizer = await Gemma3Tokenizer.fromPreset('gemma3_tiny');
  await tokenizer.saveToPreset(handle);
  const again = await Gemma3Tokenizer.fromPreset(new DirectoryHandlePreset(handle));
  expect(again.tokenize('Hello!')).toEqual(tokenizer.tokenize('Hello!'));
});
