/** Distributes bytes over files of equal size, with the file names that tfjs uses. */
import {type ByteSink, type PresetSink} from '../../base/byte_sink';

/** Default size of a shard in bytes. */
export const SHARD_SIZE = 32 * 10 ** 6;

/** Names of the shards for this number of bytes. There is at least one. */
export function shardNames(bytes: number, size = SHARD_SIZE): string[] {
  const count = Math.max(1, Math.ceil(bytes / size));
  return Array.from({length: count}, (_, i) => `group1-shard${i + 1}of${count}.bin`);
}

export const isShard = (path: string): boolean => /^group1-shard\d+of\d+\.bin$/.test(path);

/** Writes bytes one after another into shards. */
export class Shards {
  written = 0;
  private current: {index: number; sink: ByteSink} | undefined;
  constructor(
    private readonly sink: PresetSink,
    private readonly paths: readonly string[],
    private readonly size: number,
  ) {}

  /** Name of the shard that was written to last. */
  get file(): string {
    return this.paths[this.current?.index ?? 0]!;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const index = Math.min(Math.floor(this.written / this.size), this.paths.length - 1);
      if (this.current?.index !== index) {
        await this.current?.sink.close();
        this.current = {index, sink: await this.sink.create(this.paths[index]!)};
      }
      const part = bytes.subarray(done, done + (index + 1) * this.size - this.written);
      await this.current.sink.write(part);
      done += part.length;
      this.written += part.length;
    }
  }

  async close(): Promise<void> {
    await this.current?.sink.close();
  }
}
