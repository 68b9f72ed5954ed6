/** The page's side: a Worker in which models are loaded. */
import type {BackendName, BackendOptions} from '../backends/use_backend';
import type {DownloadedPreset} from '../hub/on_demand';
import type {CachedModel} from '../hub/hub';
import {Connection} from './connection';
import type {WorkerEndedError} from './ended';
import type {WorkerLike} from './port';
import {RemoteCausalLM} from './remote_causal_lm';
import type {
  DescribeOptions,
  PresetDescription,
  WorkerBackend,
  WorkerCausalLMOptions,
  WorkerDownloadOptions,
  WorkerEmbedderOptions,
  WorkerMemory,
} from './remote_options';
import {RemoteTextEmbedder} from './remote_text_embedder';
import {addressOf, presetMessage, type WorkerPreset} from './sources';

/** Options without those that messages cannot hold. */
const withAddress = ({weights, ...options}: WorkerCausalLMOptions): WorkerCausalLMOptions => ({
  ...options,
  ...(weights !== undefined && {weights: addressOf(weights)}),
});

/**
 * A Worker that runs `serve` of `tfjs-gemma3/worker/host`. The page stays responsive whatever its models do, and loads
 * none of their code.
 *
 * @example
 * const worker = new ModelWorker(new Worker(new URL('./model.worker.ts', import.meta.url), {type: 'module'}));
 * const lm = await worker.loadCausalLM('gemma3_tiny');
 * for await (const piece of lm.stream('What is the capital of France?')) document.body.append(piece);
 */
export class ModelWorker {
  private readonly connection: Connection;
  /**
   * Resolves when the Worker has ended, with the error with which all pending and later calls reject. Then start
   * another Worker.
   */
  readonly ended: Promise<WorkerEndedError>;

  /**
   * @param worker a browser's Worker, a thread of Node, or a port connected to one.
   * @throws ValueError on anything else.
   */
  constructor(worker: WorkerLike) {
    this.connection = new Connection(worker);
    this.ended = this.connection.ended;
  }

  /** Ends the Worker at once, and frees all its memory. Pending calls reject with a {@link WorkerEndedError}. */
  terminate(): void {
    this.connection.terminate();
  }

  // === Models ===

  /**
   * Loads a language model, as `Gemma3CausalLM.fromPreset`.
   *
   * @throws as there; WorkerEndedError if the Worker ends, as it may when memory runs out.
   */
  async loadCausalLM(preset: WorkerPreset, options: WorkerCausalLMOptions = {}): Promise<RemoteCausalLM> {
    const source = presetMessage(preset);
    const {key, info} = await this.connection.call('loadCausalLM', source, withAddress(options));
    return new RemoteCausalLM(this.connection, key, info);
  }

  /**
   * Loads a text embedder, as `Gemma3TextEmbedder.fromPreset`.
   *
   * @throws as {@link loadCausalLM}.
   */
  async loadTextEmbedder(preset: WorkerPreset, options: WorkerEmbedderOptions = {}): Promise<RemoteTextEmbedder> {
    const {poolingMode, normalize, ...loading} = options;
    const pooling = {...(poolingMode !== undefined && {poolingMode}), ...(normalize !== undefined && {normalize})};
    const source = presetMessage(preset);
    const {key, info} = await this.connection.call('loadTextEmbedder', source, {...withAddress(loading), ...pooling});
    return new RemoteTextEmbedder(this.connection, key, info);
  }

  /**
   * Describes a preset without its weights, which are neither read nor downloaded: what it is, and the memory that it
   * needs with each dtype.
   *
   * @throws ValueError if there is no such preset, or this version cannot build its model.
   */
  async describePreset(preset: WorkerPreset, options: DescribeOptions = {}): Promise<PresetDescription> {
    return this.connection.call('describePreset', presetMessage(preset), options);
  }

  // === Backends ===

  /** Selects the backend, as `useBackend`. Without this call, the first model selects the best one. */
  async useBackend<Name extends BackendName = 'auto'>(
    name: Name = 'auto' as Name,
    options: BackendOptions<Name> = {} as BackendOptions<Name>,
  ): Promise<Exclude<BackendName, 'auto'>> {
    return this.connection.call('useBackend', name, options);
  }

  /** Describes all backends, best first: which one is in use, and why others are not. */
  async describeBackends(): Promise<WorkerBackend[]> {
    return this.connection.call('describeBackends');
  }

  /** The memory of the backend in use. */
  async memory(): Promise<WorkerMemory> {
    return this.connection.call('memory');
  }

  // === Downloads ===

  /** Downloads a model into the cache, as `downloadPreset`: `loadCausalLM` then finds it by the same name. */
  async downloadPreset(name: string, options: WorkerDownloadOptions = {}): Promise<DownloadedPreset> {
    return this.connection.call('downloadPreset', name, options);
  }

  /** The models in the cache. */
  async cachedPresets(): Promise<CachedModel[]> {
    return this.connection.call('cachedPresets');
  }

  /** Removes a model from the cache, as `removeCachedPreset`. */
  async removeCachedPreset(name: string): Promise<CachedModel[]> {
    return this.connection.call('removeCachedPreset', name);
  }
}
