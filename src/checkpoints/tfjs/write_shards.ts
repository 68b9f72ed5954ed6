import {type PresetSink} from '../../base/byte_sink';

export const SHARD_SIZE = 32 * 10 ** 6;

/** Bytes over several files of one size. */
export class Shards {
  written = 0;
  private current: {index: number; sink: Awaited<ReturnType<PresetSink['create']>>} | undefined;
  constructor(
    private readonly sink: PresetSink,
    private readonly paths: readonly string[],
    private readonly size: number,
  ) {}

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
