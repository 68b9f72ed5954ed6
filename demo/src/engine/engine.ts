/** The model in use: its Worker, its backend, and recovery when it is lost. */
import {type RemoteCausalLM, type WorkerBackend, type WorkerLoadOptions, type WorkerMemory} from 'tfjs-gemma3/worker';
import {messageOf} from '../base/format';
import {Value} from '../base/value';
import {type Source, TINY} from './sources';
import {hideTrouble, kindOf, showTrouble, TITLES, type WayOn} from './trouble';
import {startWorker} from './worker';

export type Dtype = NonNullable<WorkerLoadOptions['dtype']>;
export type Backend = 'auto' | 'webgpu' | 'simd' | 'cpu';

export interface Loaded {
  source: Source;
  lm: RemoteCausalLM;
}

/** A copy of the model with an adapter. */
export interface Tuned {
  lm: RemoteCausalLM;
  name: string;
}

export type Phase =
  | {kind: 'loading'; source: Source; file?: string; loaded?: number; total?: number}
  | {kind: 'ready'; model: Loaded}
  | {kind: 'failed'; source: Source};

/** Smaller weights, in the order in which they are offered. */
const SMALLER = ['int8', 'int4'] as const;

export class Engine {
  readonly phase = new Value<Phase>({kind: 'loading', source: TINY});
  readonly backends = new Value<readonly WorkerBackend[]>([]);
  readonly tuned = new Value<Tuned | undefined>(undefined);
  private worker = startWorker();
  /** The backend that the user has chosen. */
  readonly backend = new Value<Backend>('auto');
  private last: {source: Source; dtype: Dtype | undefined} = {source: TINY, dtype: undefined};
  /** Counts loads, so that an older one that ends later is ignored. */
  private turn = 0;

  constructor() {
    this.watchEnd();
  }

  /** The model, once it is loaded. */
  get model(): Loaded | undefined {
    const phase = this.phase.get();
    return phase.kind === 'ready' ? phase.model : undefined;
  }

  /** Replaces the model in use, whose memory is freed first. Never throws: `phase` has the result. */
  async load(source: Source, dtype?: Dtype): Promise<void> {
    const turn = ++this.turn;
    const before = this.model;
    this.last = {source, dtype};
    hideTrouble();
    this.phase.set({kind: 'loading', source});
    await this.setTuned(undefined);
    try {
      await before?.lm.dispose().catch(() => {});
      await this.useBackend();
      const lm = await this.worker.loadCausalLM(source.preset, {
        ...(dtype && {dtype}),
        ...(source.kept ? {offline: true} : source.headers && {headers: source.headers}),
        onProgress: progress => turn === this.turn && this.phase.set({kind: 'loading', source, ...progress}),
        onDownload: ({file, loaded, total}) =>
          turn === this.turn && this.phase.set({kind: 'loading', source, file, loaded, total}),
      });
      this.backends.set(await this.worker.describeBackends());
      if (turn === this.turn) this.phase.set({kind: 'ready', model: {source, lm}});
      else await lm.dispose();
    } catch (error) {
      if (turn === this.turn) this.fail(error);
    }
  }

  /** Starts again in another Worker, which frees all memory. */
  async restart(dtype: Dtype | undefined = this.last.dtype, source = this.last.source): Promise<void> {
    this.worker.terminate();
    this.worker = startWorker();
    this.watchEnd();
    this.tuned.set(undefined);
    this.phase.set({kind: 'loading', source});
    await this.load(source, dtype);
  }

  /** Moves the model to another backend. */
  async moveTo(backend: Backend): Promise<void> {
    this.backend.set(backend);
    await this.restart();
  }

  async memory(): Promise<WorkerMemory> {
    return this.worker.memory();
  }

  /** Sets the tuned copy. The previous one is freed. */
  async setTuned(tuned: Tuned | undefined): Promise<void> {
    const before = this.tuned.get();
    this.tuned.set(tuned);
    if (before && before.lm !== tuned?.lm) await before.lm.dispose().catch(() => {});
  }

  /**
   * Handles an error of a call. If the model is lost, the page says so and offers ways to continue.
   *
   * @returns whether it was such an error: the caller need not show it.
   */
  handle(error: unknown): boolean {
    if (kindOf(error) === 'other') return false;
    this.fail(error);
    return true;
  }

  private async useBackend(): Promise<void> {
    const backend = this.backend.get();
    if (backend === 'auto') await this.worker.useBackend();
    else if (backend === 'webgpu') await this.worker.useBackend('webgpu', {software: true});
    else await this.worker.useBackend(backend);
  }

  private watchEnd(): void {
    const {worker} = this;
    void worker.ended.then(error => {
      if (worker === this.worker && error.reason !== 'terminated') this.fail(error);
    });
  }

  private fail(error: unknown): void {
    const {source, dtype} = this.last;
    this.tuned.set(undefined);
    this.phase.set({kind: 'failed', source});
    const kind = kindOf(error);
    const ways: WayOn[] = [{label: kind === 'other' ? 'Try again' : 'Start again', run: () => void this.restart()}];
    if (kind === 'gpu') ways.push({label: 'Continue on the CPU', run: () => void this.moveTo('simd')});
    if (kind === 'memory') {
      for (const smaller of SMALLER.slice(SMALLER.findIndex(name => name === dtype) + 1)) {
        ways.push({label: `Load as ${smaller}`, run: () => void this.restart(smaller)});
      }
    }
    if (this.backend.get() !== 'auto') ways.push({label: 'Choose the backend', run: () => void this.moveTo('auto')});
    if (source !== TINY) ways.push({label: 'Use gemma3_tiny', run: () => void this.restart(undefined, TINY)});
    showTrouble(TITLES[kind], messageOf(error), ways);
  }
}
