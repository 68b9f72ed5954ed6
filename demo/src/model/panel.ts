/** Chooses a model: describes it, shows what it needs, and loads it. */
import {type PresetDescription} from 'tfjs-gemma3/worker';
import {takeFiles} from '../base/files';
import {byId, h} from '../base/dom';
import {formatBytes, formatCount, messageOf} from '../base/format';
import {type Dtype, type Engine} from '../engine/engine';
import {fileSource, keptSource, parseSource, type Source} from '../engine/sources';
import {withWorker} from '../engine/worker';
import {fitsOf, proposed} from './fits';
import {showStored} from './stored';
import {Transfer} from './transfer';

const DTYPES = {
  float32: 'float32: exact, and all weights can be trained',
  bfloat16: 'bfloat16: as published',
  int8: 'int8: half of that, nearly the same answers',
  int4: 'int4: the smallest and fastest',
} as const;

export function showModelPanel(engine: Engine): void {
  const form = byId<HTMLFormElement>('choose-form');
  const loadForm = byId<HTMLFormElement>('load-form');
  const problem = byId('choose-problem');
  const folder = byId<HTMLInputElement>('choose-folder');
  const files = byId<HTMLInputElement>('choose-files');
  let chosen: Source | undefined;

  const refreshStored = showStored(engine, {
    look: source => void look(source),
    resume,
    leave: address => transfer.leave(address),
  });
  const transfer: Transfer = new Transfer(engine, refreshStored);

  async function look(source: Source): Promise<void> {
    problem.textContent = '';
    loadForm.hidden = true;
    form.setAttribute('aria-busy', 'true');
    chosen = source;
    try {
      const {preset, headers, kept} = source;
      const options = {...(headers && {headers}), ...(kept && {offline: true})};
      const description = await withWorker(worker => worker.describePreset(preset, options));
      if (chosen === source) offer(source, description);
    } catch (error) {
      if (chosen === source) problem.textContent = messageOf(error);
    } finally {
      form.removeAttribute('aria-busy');
    }
  }

  function offer(source: Source, description: PresetDescription): void {
    const {parameters, readsImages, title, dtypes, bytes} = description;
    byId('load-title').textContent = source.label;
    byId('load-facts').textContent =
      `${formatCount(parameters)} parameters, ${readsImages ? 'text and pictures' : 'text'}; ${title}` +
      (bytes > 0 ? `, ${formatBytes(bytes)} as ${dtypes.join(', ')}.` : ', without weights.');
    const fits = fitsOf(description);
    const best = proposed(description);
    byId('load-dtypes').replaceChildren(
      ...Object.entries(DTYPES).map(([value, label]) => {
        const {fits: fit, text} = fits[value as keyof typeof DTYPES];
        const input = h('input', {type: 'radio', name: 'dtype', value, checked: value === best});
        const note = h('span', {className: fit === false ? 'warning' : 'note'}, text);
        return h('label', {className: 'choice'}, input, h('span', {}, label, note));
      }),
    );
    byId('load-keep-label').hidden = source.address === undefined || source.kept === true;
    loadForm.hidden = false;
    loadForm.querySelector<HTMLInputElement>('input:checked')!.focus();
  }

  function load(source: Source, dtype: Dtype): void {
    const keeps = byId<HTMLInputElement>('load-keep').checked && source.address !== undefined && !source.kept;
    loadForm.hidden = true;
    if (keeps) void transfer.start(source, dtype);
    else void engine.load(source, dtype).then(refreshStored);
  }

  function resume(address: string, dtype: string): void {
    const token = byId<HTMLInputElement>('choose-token').value;
    const headers = token.trim() ? parseSource(address, token).headers : undefined;
    void transfer.start({...keptSource(address), kept: false, ...(headers && {headers})}, dtype as Dtype);
  }

  form.onsubmit = event => {
    event.preventDefault();
    try {
      void look(parseSource(byId<HTMLInputElement>('choose-text').value, byId<HTMLInputElement>('choose-token').value));
    } catch (error) {
      problem.textContent = messageOf(error);
      byId('choose-text').focus();
    }
  };
  // Safari on phones cannot choose folders before version 18.4.
  if ((folder as Partial<HTMLInputElement>).webkitdirectory === undefined) folder.labels![0]!.hidden = true;
  for (const input of [folder, files]) {
    input.onchange = () => {
      const taken = takeFiles(input);
      if (taken.length > 0) void look(fileSource(taken));
    };
  }
  loadForm.onsubmit = event => {
    event.preventDefault();
    const dtype = new FormData(loadForm).get('dtype') as Dtype;
    if (chosen) load(chosen, dtype);
  };
}
