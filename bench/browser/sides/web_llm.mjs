/** web-llm, which runs models that TVM has compiled. */
import {CreateMLCEngine} from '@mlc-ai/web-llm';

export const name = 'web-llm';
const MODEL = 'gemma3-1b-it-q4f16_1-MLC';

export async function open({onProgress}) {
  // Its record of this model has a window and a context size, of which it takes only one.
  const chat = {context_window_size: 4096, sliding_window_size: -1};
  const engine = await CreateMLCEngine(MODEL, {initProgressCallback: ({progress}) => onProgress(progress)}, chat);
  return {
    what: MODEL,
    async generate(prompt, tokens, onToken) {
      await engine.resetChat();
      const chunks = await engine.chat.completions.create({
        messages: [{role: 'user', content: prompt}],
        ...{max_tokens: tokens, temperature: 0, ignore_eos: true, stream: true, stream_options: {include_usage: true}},
      });
      let count = 0;
      for await (const {choices, usage} of chunks) {
        if (choices[0]?.delta.content) onToken();
        if (usage) count = usage.completion_tokens;
      }
      return count;
    },
    close: () => engine.unload(),
  };
}
