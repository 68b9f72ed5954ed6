/** The thread that owns the model. */
import {parentPort, workerData} from 'node:worker_threads';
import {Gemma3CausalLM, useBackend, type Ending} from 'tfjs-gemma3';
import type {FromModel, ToModel} from './messages.js';

if (!parentPort) throw new Error('Start this file as a worker: see model.ts.');
const port = parentPort;
const send = (message: FromModel) => port.postMessage(message);

// An error here ends the thread, and the main thread gets it as the worker's `error`.
const {preset} = workerData as {preset: string};
const backend = await useBackend();
const lm = await Gemma3CausalLM.fromPreset(preset);

const running = new Map<number, AbortController>();

async function generate({id, prompt, options}: Extract<ToModel, {type: 'generate'}>) {
  const controller = new AbortController();
  const {signal} = controller;
  running.set(id, controller);
  let ending: Ending | undefined;
  try {
    // Several texts may be generated at once: they take turns.
    for await (const piece of lm.stream(prompt, {...options, signal, onFinish: how => (ending = how)})) {
      send({type: 'piece', id, piece});
    }
  } catch (error) {
    if (!signal.aborted) send({type: 'error', id, message: String(error)});
  } finally {
    running.delete(id);
  }
  if (ending) send({type: 'done', id, ending});
}

// Messages that came while the model was loading are waiting here.
port.on('message', (message: ToModel) => {
  if (message.type === 'generate') void generate(message);
  if (message.type === 'abort') running.get(message.id)?.abort();
  if (message.type === 'close') {
    running.forEach(controller => controller.abort());
    lm.dispose();
    port.close(); // nothing is left to do: the thread ends, and so do those of the backend
  }
});
send({type: 'ready', backend});
