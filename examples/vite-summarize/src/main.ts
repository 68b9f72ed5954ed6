import type {FromWorker, ToWorker} from './messages';

const find = <T extends Element>(selector: string) => document.querySelector<T>(selector)!;
const form = find<HTMLFormElement>('form');
const text = find<HTMLTextAreaElement>('textarea');
const [start, stop] = document.querySelectorAll('button');
const status = find('#status');
const output = find('output');

const worker = new Worker(new URL('./worker.ts', import.meta.url), {type: 'module'});
const send = (message: ToWorker) => worker.postMessage(message);

function setRunning(running: boolean) {
  start.disabled = running;
  stop.disabled = !running;
}

worker.onmessage = ({data}: MessageEvent<FromWorker>) => {
  if (data.type === 'piece') output.append(data.piece);
  else if (data.type === 'status') status.textContent = data.text;
  else setRunning(false);
};
worker.onerror = event => (status.textContent = event.message ?? 'The Worker could not be loaded.');

form.onsubmit = event => {
  event.preventDefault();
  output.textContent = '';
  setRunning(true);
  send({type: 'summarize', text: text.value});
};
stop.onclick = () => send({type: 'stop'});
