/** The cache of a whole model: one of keys and values for each decoder block. */
import {type DecoderCache} from '../../../generation/decoder';
import {KvCache} from '../../../generation/kv_cache';
import {type Gemma3Backbone} from '../gemma3_backbone';
import {type Gemma3DecoderBlock} from '../gemma3_decoder_block';

const windowOf = ({config}: Gemma3DecoderBlock): number | null =>
  config.useSlidingWindowAttention ? config.slidingWindowSize : null;

/** Caches of all blocks: a ring for those with a window, a place for every position for the others. */
export class Gemma3Cache implements DecoderCache {
  readonly blocks: readonly KvCache[];

  /** @param slack tokens that `truncate` can always take back. */
  constructor(backbone: Gemma3Backbone, batch: number, maxLength: number, slack = 0) {
    this.blocks = backbone.transformerLayers.map(block => {
      const {numKeyValueHeads, headDim} = block.config;
      return new KvCache({batch, maxLength, numKeyValueHeads, headDim, window: windowOf(block), slack});
    });
  }

  /** Bytes that the cache of one row takes, without making it. */
  static byteLength(backbone: Gemma3Backbone, maxLength: number): number {
    return backbone.transformerLayers.reduce((sum, block) => {
      const {numKeyValueHeads, headDim} = block.config;
      const places = Math.min(maxLength, windowOf(block) ?? maxLength);
      return sum + 2 * places * numKeyValueHeads * headDim * Float32Array.BYTES_PER_ELEMENT;
    }, 0);
  }

  get lengths(): readonly number[] {
    return this.blocks[0]!.lengths;
  }

  canTruncate(lengths: readonly number[]): boolean {
    return this.blocks.every(block => block.canTruncate(lengths));
  }

  truncate(lengths: readonly number[]): void {
    for (const block of this.blocks) block.truncate(lengths);
  }

  select(rows: readonly number[]): void {
    for (const block of this.blocks) block.select(rows);
  }

  copy(): Gemma3Cache {
    const twin = Object.create(Gemma3Cache.prototype) as Gemma3Cache;
    return Object.assign(twin, {blocks: this.blocks.map(block => block.copy())});
  }

  dispose(): void {
    for (const block of this.blocks) block.dispose();
  }
}
