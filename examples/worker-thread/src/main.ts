/** The main process: it asks questions, shows answers, stops one of them, and stays responsive meanwhile. */
import {once} from 'node:events';
import {Worker} from 'node:worker_threads';
import {ModelWorker} from 'tfjs-gemma3/worker';

const thread = new Worker(new URL('./worker.js', import.meta.url));
const worker = new ModelWorker(thread);
const lm = await worker.loadCausalLM(process.argv[2] ?? 'gemma3_tiny');
const backend = (await worker.describeBackends()).find(({inUse}) => inUse);
console.log(`The model is ready on "${backend?.name}".`);

let ticks = 0;
const clock = setInterval(() => ticks++, 5);

// Two questions at once.
async function ask(question: string) {
  let answer = '';
  for await (const piece of lm.stream([{role: 'user', content: question}], {maxNewTokens: 32})) answer += piece;
  return `${question} ${answer}`;
}
const answers = await Promise.all(['What is the capital of Peru?', 'On which continent is Kenya?'].map(ask));
answers.forEach(answer => console.log(answer));

// Leaving the loop stops the model, as a signal does.
const pieces: string[] = [];
for await (const piece of lm.stream('What is the capital of France?')) {
  pieces.push(piece);
  if (pieces.length === 3) break;
}
console.log(`Stopped after: ${pieces.join('')}`);

clearInterval(clock);
console.log(ticks > 0 ? 'The main thread stayed responsive.' : 'The main thread was blocked.');

const ended = once(thread, 'exit');
worker.terminate();
await ended;
console.log('The thread of the model has ended.');
