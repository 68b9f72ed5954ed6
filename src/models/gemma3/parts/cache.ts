/** The cache of a whole model: one cache of keys and values per decoder block. */
import {checkArgument} from '../../../base/checks';
import {type DecoderCache} from '../../../generation/decoder';
import {type CacheDtype, KvCache} from '../../../generation/kv_cache';
import {type Gemma3Backbone} from '../gemma3_backbone';
import {type Gemma3DecoderBlock} from '../gemma3_decoder_block';

const windowOf = ({config}: Gemma3DecoderBlock): number | null =>
  config.useSlidingWindowAttention ? config.slidingWindowSize : null;

/** Creates a cache from each item. If one cannot be created, none of them stays in memory. */
function allOrNone<T>(items: readonly T[], create: (item: T) => KvCache): KvCache[] {
  const created: KvCache[] = [];
  try {
    for (const item of items) created.push(create(item));
    return created;
  } catch (error) {
    for (const cache of created) cache.dispose();
    throw error;
  }
}

/** Caches of all blocks: a ring for blocks with a sliding window, and a slot for every position for the others. */
export class Gemma3Cache implements DecoderCache {
  readonly blocks: readonly KvCache[];

  /**
   * @param slack number of tokens that `truncate` can always remove.
   * @param dtype how keys and values are stored.
   */
  constructor(backbone: Gemma3Backbone, batch: number, maxLength: number, slack = 0, dtype: CacheDtype = 'float32') {
    this.blocks = allOrNone(backbone.transformerLayers, block => {
      const {numKeyValueHeads, headDim} = block.config;
      return new KvCache({batch, maxLength, numKeyValueHeads, headDim, window: windowOf(block), slack, dtype});
    });
  }

  /** Size in bytes of the cache of one row, computed without creating it. */
  static byteLength(backbone: Gemma3Backbone, maxLength: number, dtype: CacheDtype = 'float32'): number {
    checkArgument('Gemma3Cache.byteLength', 'dtype', dtype, 'cacheDtype');
    return backbone.transformerLayers.reduce((sum, block) => {
      const {numKeyValueHeads, headDim} = block.config;
      const slots = Math.min(maxLength, windowOf(block) ?? maxLength);
      return sum + 2 * slots * numKeyValueHeads * headDim * (dtype === 'float32' ? 4 : 2);
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
    const copy = Object.create(Gemma3Cache.prototype) as Gemma3Cache;
    return Object.assign(copy, {blocks: allOrNone(this.blocks, block => block.copy())});
  }

  dispose(): void {
    for (const block of this.blocks) block.dispose();
  }
}
