/** Adapters as files: saved, and loaded again. */
import {type RemoteCausalLM} from 'tfjs-gemma3/worker';
import {download, takeFiles} from '../base/files';
import {byId} from '../base/dom';
import {messageOf} from '../base/format';
import {type Engine} from '../engine/engine';

const isPeft = (files: readonly File[]): boolean => files.some(({name}) => /\.(safetensors|json)$/i.test(name));

async function loadInto(lm: RemoteCausalLM, files: readonly File[]): Promise<void> {
  if (isPeft(files)) await lm.importPeft(Object.fromEntries(files.map(file => [file.name, file])));
  else if (files.length === 1) await lm.loadLora(new Uint8Array(await files[0]!.arrayBuffer()));
  else throw new Error('Choose one .lora.h5 file, or adapter_config.json and adapter_model.safetensors together.');
}

export function showAdapters(engine: Engine): void {
  const note = byId('adapter-note');
  const lora = byId<HTMLButtonElement>('save-lora');
  const peft = byId<HTMLButtonElement>('save-peft');
  const input = byId<HTMLInputElement>('load-adapter');

  async function save(as: 'lora' | 'peft'): Promise<void> {
    const tuned = engine.tuned.get();
    if (!tuned) return;
    try {
      if (as === 'lora') download(`${tuned.name}.lora.h5`, await tuned.lm.saveLora());
      else for (const [name, bytes] of Object.entries(await tuned.lm.exportPeft())) download(name, bytes);
      note.textContent =
        as === 'lora' ? 'KerasHub reads this file too.' : "Two files, which Hugging Face's PEFT reads too.";
    } catch (error) {
      if (!engine.handle(error)) note.textContent = messageOf(error);
    }
  }

  async function load(files: readonly File[]): Promise<void> {
    const {model} = engine;
    if (!model || files.length === 0) return;
    note.textContent = 'Loading…';
    const lm = await model.lm.clone();
    try {
      await loadInto(lm, files);
      const name = files[0]!.name.replace(/\.(lora\.h5|h5|gguf|safetensors|json)$/i, '');
      await engine.setTuned({lm, name});
      note.textContent = `${files.map(({name: one}) => one).join(', ')} is loaded. The chat uses it too.`;
    } catch (error) {
      await lm.dispose().catch(() => {});
      if (!engine.handle(error)) note.textContent = messageOf(error);
    }
  }

  lora.onclick = () => void save('lora');
  peft.onclick = () => void save('peft');
  input.onchange = () => void load(takeFiles(input));
  engine.tuned.watch(tuned => {
    lora.disabled = peft.disabled = tuned === undefined;
  });
}
