/** POST {"prompt": "…"} → the answer as text, streamed while it is generated. */
import {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';

const preset = process.env.PRESET ?? 'gemma3_tiny';

/** Loaded with the first request, then kept. */
let loading: Promise<Gemma3CausalLM> | undefined;

async function load() {
  await useBackend();
  return Gemma3CausalLM.fromPreset(preset);
}

export async function POST(request: Request): Promise<Response> {
  const {prompt} = (await request.json()) as {prompt?: unknown};
  if (typeof prompt !== 'string') return new Response('Expected {"prompt": "…"}.', {status: 400});
  const lm = await (loading ??= load());
  const stream = lm.stream([{role: 'user', content: prompt}], {maxNewTokens: 256});
  const body = new ReadableStream({
    // One piece of text each time the reader wants more. When the reader goes away, generation ends.
    async pull(controller) {
      const {done, value} = await stream.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await stream.return();
    },
  });
  return new Response(body.pipeThrough(new TextEncoderStream()), {
    headers: {'content-type': 'text/plain; charset=utf-8'},
  });
}
