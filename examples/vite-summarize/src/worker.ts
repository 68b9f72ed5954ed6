/** The Worker that owns the model, so that the page can scroll while it computes. */
import {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
import 'tfjs-gemma3/presets/gemma3_tiny'; // only for "gemma3_tiny": a model of your server needs none of this
import type {FromWorker, ToWorker} from './messages';

/** "gemma3_tiny", or a folder on this server, such as "/presets/gemma3_instruct_270m". */
const preset: string = import.meta.env.VITE_PRESET ?? 'gemma3_tiny';

const send = (message: FromWorker) => postMessage(message);
const percent = (part: number, total: number) => `${Math.round((100 * part) / total)} %`;
let controller = new AbortController();

async function load() {
  const backend = await useBackend();
  const lm = await Gemma3CausalLM.fromPreset(preset, {
    onProgress: ({loaded, total}) => send({type: 'status', text: `Loading the model: ${percent(loaded, total)}`}),
  });
  send({type: 'status', text: `${preset} is ready on "${backend}".`});
  return lm;
}

async function summarize(text: string) {
  controller = new AbortController();
  const {signal} = controller;
  const content = `Summarize this text in one sentence.\n\n${text}`;
  try {
    const lm = await loading;
    const stream = lm.stream([{role: 'user', content}], {
      maxNewTokens: 120,
      signal,
      onPrefill: ({tokens, total}) => send({type: 'status', text: `Reading: ${percent(tokens, total)}`}),
      onFinish: ({finishReason, usage}) =>
        send({type: 'status', text: `${usage.promptTokens} tokens, then ${usage.newTokens} (${finishReason}).`}),
    });
    for await (const piece of stream) send({type: 'piece', piece});
  } catch (error) {
    send({type: 'status', text: signal.aborted ? 'Stopped.' : String(error)});
  }
  send({type: 'done'});
}

const loading = load();
loading.catch(error => send({type: 'status', text: String(error)}));

onmessage = ({data}: MessageEvent<ToWorker>) => {
  if (data.type === 'stop') controller.abort();
  else void summarize(data.text);
};
