/** A text embedder in a Worker. */
import type {EncodeOptions} from '../models/text_embedder';
import type {Connection} from './connection';
import type {ModelInfo} from './remote_options';

/** A `Gemma3TextEmbedder` that lives in a Worker: see {@link ModelWorker.loadTextEmbedder}. */
export class RemoteTextEmbedder {
  /** @internal */
  constructor(
    private readonly connection: Connection,
    private readonly key: number,
    /** What the model is. */
    readonly info: ModelInfo,
  ) {}

  /**
   * Embeddings of texts, one array per text, in their order.
   *
   * @throws as `encodeText` of `Gemma3TextEmbedder`; WorkerEndedError if the Worker ends.
   */
  async encodeText(
    texts: string | readonly string[],
    options: EncodeOptions = {},
  ): Promise<Float32Array<ArrayBuffer>[]> {
    return this.connection.call('encodeText', this.key, texts, options);
  }

  /** Frees the weights, unless another model uses them as well. */
  async dispose(): Promise<void> {
    await this.connection.call('dispose', this.key);
  }
}
