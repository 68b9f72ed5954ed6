/** The models that are kept in this browser. */
import {announce, byId, h} from '../base/dom';
import {forgetDownload, onChangeElsewhere, tellOthers, knownDownloads} from '../base/database';
import {formatBytes, messageOf} from '../base/format';
import {type Engine} from '../engine/engine';
import {keptSource, type Source} from '../engine/sources';
import {withWorker} from '../engine/worker';

interface Entry {
  address: string;
  /** Its name in the cache. */
  name: string;
  bytes: number;
  complete: boolean;
  dtype: string;
}

/** Whether an address is of a model in the cache, or of a file or a revision of it. */
const isOf = (address: string, name: string): boolean =>
  address === name || (/^[/@]/.test(address.slice(name.length)) && address.startsWith(name));

/** The models in the cache, by the requested addresses, and unfinished downloads. */
async function entries(): Promise<Entry[]> {
  const [models, downloads] = await Promise.all([withWorker(worker => worker.cachedPresets()), knownDownloads()]);
  const stored = models.flatMap(({name, bytes, complete}) => {
    const own = downloads.filter(({address}) => isOf(address, name));
    const all = own.length > 0 ? own : [{address: name, dtype: 'bfloat16', done: true}];
    return all.map(({address, dtype, done}) => ({address, name, bytes, complete: complete && done, dtype}));
  });
  const missing = downloads.filter(({address}) => !models.some(({name}) => isOf(address, name)));
  return [
    ...stored,
    ...missing
      .filter(({done}) => !done)
      .map(({address, dtype}) => ({address, name: address, bytes: 0, complete: false, dtype})),
  ];
}

async function showSpace(): Promise<void> {
  // Safari does not report free space before version 17.
  const {estimate, persisted} = navigator.storage as Partial<StorageManager>;
  const {usage = 0, quota} = (await estimate?.call(navigator.storage)) ?? {};
  const kept = (await persisted?.call(navigator.storage)) ?? false;
  byId('stored-note').textContent =
    (quota === undefined
      ? ''
      : `This page uses ${formatBytes(usage)} of ${formatBytes(quota)} that the browser allows. `) +
    (kept ? 'The browser keeps them.' : 'The browser may remove them when space runs out.');
  byId('persist').hidden = kept || !persisted;
}

/**
 * Removes a model from the cache, as far as it is there, and forgets the downloads of it.
 *
 * @throws ValueError if a tab is downloading it. Then nothing is removed or forgotten.
 */
export async function removeStored(name: string, address: string): Promise<void> {
  await withWorker(async worker => {
    const found = (await worker.cachedPresets()).find(model => isOf(address, model.name));
    if (found) await worker.removeCachedPreset(found.name);
  });
  for (const known of await knownDownloads()) {
    if (known.address === address || isOf(known.address, name)) await forgetDownload(known.address);
  }
  tellOthers({models: true});
}

/** Actions on a stored model. */
export interface StoredActions {
  look(source: Source): void;
  /** Continues a download. */
  resume(address: string, dtype: string): void;
  /** Ends the download of an address, if it runs in this tab. */
  leave(address: string): Promise<void>;
}

/**
 * Lists what is stored, with buttons.
 *
 * @returns a function that lists again.
 */
export function showStored(engine: Engine, {look, resume, leave}: StoredActions): () => Promise<void> {
  const list = byId('stored');
  const problem = byId('stored-problem');

  async function remove({name, address}: Entry): Promise<void> {
    const used = engine.model?.source;
    problem.textContent = '';
    try {
      await leave(address);
      await removeStored(name, address);
      announce(used?.address === address ? 'Deleted. The model in use stays in memory.' : 'Deleted.');
    } catch (error) {
      problem.textContent = messageOf(error);
    }
    await refresh();
  }

  const item = (entry: Entry) => {
    const {address, bytes, complete, dtype} = entry;
    const {label} = keptSource(address);
    const button = (text: string, run: () => void) =>
      h('button', {type: 'button', className: 'quiet', onclick: run, 'aria-label': `${text} ${label}`}, text);
    return h(
      'li',
      {},
      h('span', {className: 'grow'}, label, h('span', {className: 'note'}, complete ? formatBytes(bytes) : 'unfinished')),
      complete ? button('Use', () => look(keptSource(address))) : button('Resume', () => resume(address, dtype)),
      button('Delete', () => void remove(entry)),
    ); // prettier-ignore
  };

  async function refresh(): Promise<void> {
    if (!navigator.storage?.getDirectory) {
      list.replaceChildren(h('li', {className: 'note'}, 'This browser does not store files for this page.'));
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
  // Lists only when it is first shown: a separate Worker would delay the first model.
  const panel = document.querySelector<HTMLElement>('[data-panel=model]')!;
  const firstTime = new IntersectionObserver(([seen]) => {
    if (!seen?.isIntersecting) return;
    firstTime.disconnect();
    void refresh();
  });
  firstTime.observe(panel);
  return refresh;
}
