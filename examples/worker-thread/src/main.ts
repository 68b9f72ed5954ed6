/** The main process: it asks, shows answers, stops one, and stays responsive meanwhile. */
import {ModelThread} from './model.js';

const model = new ModelThread(process.argv[2] ?? 'gemma3_tiny');
console.log(`The model is ready on "${await model.ready}".`);

let ticks = 0;
const clock = setInterval(() => ticks++, 5);

// Two questions at once.
async function ask(question: string) {
  let answer = '';
  for await (const piece of model.stream([{role: 'user', content: question}], {maxNewTokens: 32})) answer += piece;
  return `${question} ${answer}`;
}
const answers = await Promise.all(['What is the capital of Peru?', 'On which continent is Kenya?'].map(ask));
answers.forEach(answer => console.log(answer));

// A person presses "stop" after the third piece.
const controller = new AbortController();
const pieces: string[] = [];
for await (const piece of model.stream('What is the capital of France?', {signal: controller.signal})) {
  pieces.push(piece);
  if (pieces.length === 3) controller.abort();
}
console.log(`Stopped after: ${pieces.join('')}`);

clearInterval(clock);
console.log(ticks > 0 ? 'The main thread stayed responsive.' : 'The main thread was blocked.');
console.log(`The thread of the model ended with ${await model.close()}.`);
