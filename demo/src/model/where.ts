/** Shows which model is loaded, where it runs, and why. */
import {type WorkerBackend} from 'tfjs-gemma3/worker';
import {byId, h} from '../base/dom';
import {formatCount, percent} from '../base/format';
import {type Backend, type Engine, type Phase} from '../engine/engine';

const reasonOf = (backends: readonly WorkerBackend[]): string => {
  const used = backends.find(({inUse}) => inUse);
  if (!used) return 'The backend is chosen when the first model is loaded.';
  const gpu = backends.find(({name}) => name === 'webgpu');
  if (used.name === 'webgpu') return 'It runs on WebGPU: this machine has a GPU that the browser can use.';
  if (used.name === 'cpu') return 'It runs in plain JavaScript, which is slow.';
  const threads = crossOriginIsolated
    ? ''
    : ' It has one thread, because this page is not isolated from other origins.';
  const why = !gpu?.available
    ? 'because there is no WebGPU here'
    : 'because the only WebGPU adapter computes in software, which is slower, or another backend was chosen';
  return `It runs on the CPU with WebAssembly, ${why}.${threads}`;
};

function describe(phase: Phase, backends: readonly WorkerBackend[]): {short: string; long: string; state: string} {
  const {label} = phase.kind === 'ready' ? phase.model.source : phase.source;
  if (phase.kind === 'failed') {
    return {short: `${label}: not loaded`, long: `${label} could not be loaded.`, state: 'failed'};
  }
  if (phase.kind === 'loading') {
    const {loaded = 0, total = 0} = phase;
    const how = total > 0 ? `, ${percent(loaded, total)}` : '…';
    return {short: `${label} is loading${how}`, long: `${label} is loading${how}`, state: 'busy'};
  }
  const used = backends.find(({inUse}) => inUse);
  const {dtype, parameters, readsImages} = phase.model.lm.info;
  return {
    short: `${label} · ${used?.name ?? ''}`,
    long:
      `${label} has ${formatCount(parameters)} parameters, stored as ${dtype}, ` +
      `and reads ${readsImages ? 'text and pictures' : 'text'}.`,
    state: 'ready',
  };
}

export function showWhere(engine: Engine): void {
  const update = () => {
    const {short, long, state} = describe(engine.phase.get(), engine.backends.get());
    byId('where-text').textContent = short;
    byId('model-now').textContent = long;
    document.querySelector<HTMLElement>('.dot')!.dataset.state = state;
    document.body.dataset.state = state;
  };
  engine.phase.watch(update);
  engine.backends.watch(backends => {
    update();
    byId('where-reason').textContent = reasonOf(backends);
    byId('backends').replaceChildren(
      ...backends.map(({name, available, inUse, details}) =>
        h('li', {}, h('strong', {}, name), inUse && ' (in use)', h('p', {className: 'note'}, available ? details : `Not available. ${details}`)),
      ),
    ); // prettier-ignore
  });
  const choice = byId<HTMLSelectElement>('backend');
  engine.backend.watch(backend => (choice.value = backend));
  choice.onchange = () => void engine.moveTo(choice.value as Backend);
}
