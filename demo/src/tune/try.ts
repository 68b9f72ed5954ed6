/** The same question to both models, side by side. */
import {type RemoteCausalLM} from 'tfjs-gemma3/worker';
import {byId} from '../base/dom';
import {messageOf} from '../base/format';
import {type Engine} from '../engine/engine';

/** Tokens of an answer: enough to see a difference. */
const TOKENS = 96;

export function showTry(engine: Engine, asTurns: () => boolean): () => Promise<void> {
  const form = byId<HTMLFormElement>('try-form');
  const button = byId<HTMLButtonElement>('try-ask');
  const [before, after] = [byId('try-before'), byId('try-after')];

  async function write(lm: RemoteCausalLM, output: HTMLElement): Promise<void> {
    const question = byId<HTMLInputElement>('try-text').value;
    const prompt = asTurns() ? [{role: 'user', content: question} as const] : question;
    output.textContent = '…';
    let text = '';
    for await (const piece of lm.stream(prompt, {maxNewTokens: TOKENS})) output.textContent = text += piece;
    output.textContent = text || '(nothing)';
  }

  async function ask(): Promise<void> {
    const {model} = engine;
    if (!model) return;
    button.disabled = true;
    try {
      await write(model.lm, before);
      const tuned = engine.tuned.get();
      if (tuned) await write(tuned.lm, after);
      else after.textContent = 'Not tuned yet.';
    } catch (error) {
      if (!engine.handle(error)) after.textContent = messageOf(error);
    } finally {
      button.disabled = engine.model === undefined;
    }
  }

  form.onsubmit = event => {
    event.preventDefault();
    void ask();
  };
  engine.phase.watch(({kind}) => {
    button.disabled = kind !== 'ready';
    if (kind === 'loading') before.textContent = after.textContent = '';
  });
  return ask;
}
