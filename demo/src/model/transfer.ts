/** A download into the browser's own files: progress by file and bytes, pause, and continuing after a reload. */
import {announce, byId, h} from '../base/dom';
import {rememberDownload, tellOthers} from '../base/database';
import {formatBytes, formatTime, messageOf, percent} from '../base/format';
import {type Dtype, type Engine} from '../engine/engine';
import {keptSource, type Source} from '../engine/sources';
import {withWorker} from '../engine/worker';
import {removeStored} from './stored';

interface FileProgress {
  loaded: number;
  total: number | undefined;
}

/** Bytes per second over the last seconds. */
class Speed {
  private marks: {at: number; bytes: number}[] = [];

  add(bytes: number): void {
    const at = performance.now();
    this.marks = [...this.marks.filter(mark => at - mark.at < 5000), {at, bytes}];
  }

  get perSecond(): number {
    const [first, last] = [this.marks[0], this.marks.at(-1)];
    if (!first || !last || last.at === first.at) return 0;
    return (1000 * (last.bytes - first.bytes)) / (last.at - first.at);
  }
}

export class Transfer {
  private current: {source: Source; dtype: Dtype} | undefined;
  private stop = new AbortController();
  private readonly pauseButton = byId<HTMLButtonElement>('transfer-pause');

  constructor(
    private readonly engine: Engine,
    private readonly refreshStored: () => Promise<void>,
  ) {
    this.pauseButton.onclick = () => {
      if (this.running) this.stop.abort('pause');
      else if (this.current) void this.start(this.current.source, this.current.dtype);
    };
    byId('transfer-cancel').onclick = () => void this.cancel();
  }

  /** The download that is running, until it has stopped. */
  private running: Promise<void> | undefined;

  /** Downloads missing files, and loads the model from its copy. Continues an earlier download. */
  async start(source: Source, dtype: Dtype): Promise<void> {
    await this.end('pause');
    this.stop = new AbortController();
    this.current = {source, dtype};
    this.running = this.run(source, dtype, this.stop.signal);
    await this.running;
    this.running = undefined;
    await this.refreshStored();
  }

  /** Stops a running download, and waits until it has ended. */
  private async end(reason: 'pause' | 'cancel'): Promise<void> {
    this.stop.abort(reason);
    await this.running;
  }

  private async run(source: Source, dtype: Dtype, signal: AbortSignal): Promise<void> {
    const address = source.address!;
    this.open(source.label);
    try {
      await rememberDownload({address, dtype, done: false});
      await withWorker(worker =>
        worker.downloadPreset(address, {
          ...(source.headers && {headers: source.headers}),
          signal,
          onWait: () => this.say('Another tab is downloading this model. Waiting for it.'),
          onProgress: this.progress(signal),
        }),
      );
    } catch (error) {
      if (signal.aborted) this.say(`Paused. ${byId('transfer-note').textContent ?? ''}`);
      else this.say(`${messageOf(error)} What has arrived is kept.`);
      this.pauseButton.textContent = 'Resume';
      return;
    }
    await rememberDownload({address, dtype, done: true});
    byId('transfer').hidden = true;
    tellOthers({models: true});
    announce(`${source.label} is complete.`);
    await this.engine.load(keptSource(address), dtype);
  }

  private async cancel(): Promise<void> {
    const address = this.current?.source.address;
    if (address === undefined) return;
    await this.leave(address);
    await removeStored(address, address);
    await this.refreshStored();
  }

  /** Ends the download of an address, if it is this one. The bytes that have arrived stay in the cache. */
  async leave(address: string): Promise<void> {
    if (this.current?.source.address !== address) return;
    await this.end('cancel');
    byId('transfer').hidden = true;
    this.current = undefined;
  }

  private open(label: string): void {
    byId('transfer').hidden = false;
    byId('transfer-title').textContent = `Downloading ${label}`;
    byId('transfer-files').replaceChildren();
    byId<HTMLProgressElement>('transfer-bar').removeAttribute('value');
    this.pauseButton.textContent = 'Pause';
    this.say('Checking the files…');
  }

  private say(text: string): void {
    byId('transfer-note').textContent = text;
  }

  private progress(signal: AbortSignal) {
    const files = new Map<string, FileProgress>();
    const speed = new Speed();
    let frame = 0;
    let all = {loaded: 0, total: 0};
    const show = () => {
      frame = 0;
      if (signal.aborted) return;
      const {loaded, total} = all;
      byId<HTMLProgressElement>('transfer-bar').value = total > 0 ? loaded / total : 0;
      const rate = speed.perSecond;
      const left = rate > 0 ? `, ${formatBytes(rate)}/s, ${formatTime((total - loaded) / rate)} left` : '';
      this.say(`${formatBytes(loaded)} of ${formatBytes(total)} (${percent(loaded, total)})${left}`);
      byId('transfer-files').replaceChildren(
        ...[...files].map(([file, one]) => {
          const done = one.loaded === one.total;
          const size = one.total === undefined ? '' : ` of ${formatBytes(one.total)}`;
          return h('li', {}, h('span', {}, file), h('span', {className: 'note'}, done ? `${formatBytes(one.loaded)} ✓` : `${formatBytes(one.loaded)}${size}`));
        }),
      ); // prettier-ignore
    };
    return (one: {file: string; loaded: number; total: number; fileLoaded: number; fileTotal: number | undefined}) => {
      files.set(one.file, {loaded: one.fileLoaded, total: one.fileTotal});
      all = one;
      speed.add(one.loaded);
      frame ||= requestAnimationFrame(show);
    };
  }
}
