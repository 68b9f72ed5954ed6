/** The models that are kept in this browser. */
import {byId, h} from '../base/dom';
import {forgetDownload, onChangeElsewhere, tellOthers, unfinishedDownloads} from '../base/database';
import {formatBytes, messageOf} from '../base/format';
import {type Engine} from '../engine/engine';
import {keptSource, type Source} from '../engine/sources';
import {withWorker} from '../engine/worker';

interface Entry {
  address: string;
  bytes: number;
  complete: boolean;
  dtype: string | undefined;
}

async function entries(): Promise<Entry[]> {
  const [models, unfinished] = await Promise.all([
    withWorker(worker => worker.cachedPresets()),
    unfinishedDownloads(),
  ]);
  const dtypes = new Map(unfinished.map(({address, dtype}) => [address, dtype]));
  const stored = models.map(({name, bytes, complete}) => {
    const begun = [...dtypes.keys()].find(address => address === name || name.startsWith(`${address}@`));
    return {address: name, bytes, complete: complete && begun === undefined, dtype: begun && dtypes.get(begun)};
  });
  const missing = unfinished.filter(({address}) => !models.some(({name}) => name.startsWith(address)));
  return [...stored, ...missing.map(({address, dtype}) => ({address, bytes: 0, complete: false, dtype}))];
}

async function showSpace(): Promise<void> {
  const {usage = 0, quota} = await navigator.storage.estimate();
  const kept = await navigator.storage.persisted();
  byId('stored-note').textContent =
    (quota === undefined ? '' : `This page uses ${formatBytes(usage)} of ${formatBytes(quota)} that the browser gives it. `) +
    (kept ? 'The browser keeps them.' : 'The browser may remove them when space runs out.');
  byId('persist').hidden = kept;
}

/**
 * Lists what is stored, with buttons.
 *
 * @returns a function that lists again.
 */
export function showStored(
  engine: Engine,
  look: (source: Source) => void,
  resume: (address: string, dtype: string) => void,
): () => Promise<void> {
  const list = byId('stored');

  async function remove(address: string): Promise<void> {
    const used = engine.model?.source;
    try {
      await forgetDownload(address);
      await withWorker(worker => worker.removeCachedPreset(address));
      tellOthers({models: true});
    } catch (error) {
      byId('stored-note').textContent = messageOf(error);
    }
    // Its weights are in memory: it goes on until another one is loaded.
    if (used?.address === address) byId('stored-note').textContent = 'The model in use stays in memory.';
    await refresh();
  }

  const item = ({address, bytes, complete, dtype}: Entry) => {
    const {label} = keptSource(address);
    const button = (text: string, run: () => void) =>
      h('button', {type: 'button', className: 'quiet', onclick: run, 'aria-label': `${text} ${label}`}, text);
    return h(
      'li',
      {},
      h('span', {className: 'grow'}, label, h('span', {className: 'note'}, complete ? formatBytes(bytes) : `unfinished, ${formatBytes(bytes)}`)),
      complete ? button('Use', () => look(keptSource(address))) : button('Resume', () => resume(address, dtype ?? 'bfloat16')),
      button('Delete', () => void remove(address)),
    ); // prettier-ignore
  };

  async function refresh(): Promise<void> {
    if (!navigator.storage?.getDirectory) {
      list.replaceChildren(h('li', {className: 'note'}, 'This browser keeps no files for pages like this one.'));
      return;
    }
    try {
      const all = await entries();
      const none = h('li', {className: 'note'}, 'None yet.');
      list.replaceChildren(...(all.length > 0 ? all.map(item) : [none]));
      await showSpace();
    } catch (error) {
      list.replaceChildren(h('li', {className: 'problem'}, messageOf(error)));
    }
  }

  byId('persist').onclick = async () => {
    await navigator.storage.persist();
    await showSpace();
  };
  onChangeElsewhere(change => 'models' in change && void refresh());
  // Lists when it is first looked at: a Worker of its own would delay the first model.
  const panel = document.querySelector<HTMLElement>('[data-panel=model]')!;
  const firstTime = new IntersectionObserver(([seen]) => {
    if (!seen?.isIntersecting) return;
    firstTime.disconnect();
    void refresh();
  });
  firstTime.observe(panel);
  return refresh;
}
