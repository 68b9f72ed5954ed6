/** web-llm: kernels that TVM has compiled for the model. */
import {CreateMLCEngine} from '@mlc-ai/web-llm';
import {Watch} from '../watch.js';

export const name = 'web-llm';

export async function open({mlc}, say) {
  // The configuration of Gemma 3 has a context and a window, of which web-llm takes only one.
  const chat = {context_window_size: 4096, sliding_window_size: -1};
  const engine = await CreateMLCEngine(mlc, {initProgressCallback: ({text}) => say(text)}, chat);
  return {
    model: mlc,
    async run(text, tokens) {
      // Otherwise it would continue from the prompt of the previous run.
      await engine.resetChat();
      const watch = new Watch();
      let usage;
      const chunks = await engine.completions.create({
        prompt: text,
        max_tokens: tokens,
        temperature: 0,
        ignore_eos: true,
        stream: true,
        stream_options: {include_usage: true},
      });
      for await (const chunk of chunks) {
        if (chunk.usage) usage = chunk.usage;
        else watch.arrived();
      }
      // A character of several tokens arrives once, so the number of tokens is the one that web-llm says.
      return watch.result(usage.prompt_tokens, usage.completion_tokens);
    },
  };
}
