import {ModelWorker, WorkerEndedError} from 'tfjs-gemma3/worker';

/** "gemma3_tiny", or a folder on this server, such as "/presets/gemma3_instruct_270m". */
const preset: string = import.meta.env.VITE_PRESET ?? 'gemma3_tiny';

const find = <T extends Element>(selector: string) => document.querySelector<T>(selector)!;
const form = find<HTMLFormElement>('form');
const text = find<HTMLTextAreaElement>('textarea');
const [start, stop] = document.querySelectorAll('button');
const status = find('#status');
const output = find('output');

const say = (message: string) => (status.textContent = message);
const percent = (part: number, total: number) => `${Math.round((100 * part) / total)} %`;

async function load() {
  const worker = new ModelWorker(new Worker(new URL('./worker.ts', import.meta.url), {type: 'module'}));
  const lm = await worker.loadCausalLM(preset, {
    onProgress: ({loaded, total}) => say(`Loading the model: ${percent(loaded, total)}`),
  });
  const backend = (await worker.describeBackends()).find(({inUse}) => inUse);
  say(`${preset} is ready on "${backend?.name}".`);
  return lm;
}

let loading = load();
loading.catch(error => say(String(error)));
let controller = new AbortController();

async function summarize() {
  controller = new AbortController();
  const {signal} = controller;
  const content = `Summarize this text in one sentence.\n\n${text.value}`;
  output.textContent = '';
  start.disabled = true;
  stop.disabled = false;
  try {
    const lm = await loading;
    const answer = lm.stream([{role: 'user', content}], {
      maxNewTokens: 120,
      signal,
      onPrefill: ({tokens, total}) => say(`Reading: ${percent(tokens, total)}`),
    });
    for await (const piece of answer) output.append(piece);
    const {finishReason, usage} = answer.ending!;
    say(`${usage.promptTokens} tokens, then ${usage.newTokens} (${finishReason}).`);
  } catch (error) {
    say(signal.aborted ? 'Stopped.' : String(error));
    // The browser has ended the Worker, perhaps because memory ran out: start again.
    if (error instanceof WorkerEndedError) loading = load();
  }
  start.disabled = false;
  stop.disabled = true;
}

form.onsubmit = event => {
  event.preventDefault();
  void summarize();
};
stop.onclick = () => controller.abort();
