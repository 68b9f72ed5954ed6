/** A conversation with a model in a Worker, as state of Svelte. */
import {ModelWorker, type RemoteChat} from 'tfjs-gemma3/worker';

export class Chat {
  messages = $state<{role: 'user' | 'assistant'; content: string}[]>([]);
  /** The status, as text for users. */
  status = $state('The model is loading…');
  answering = $state(false);
  private chat = $state.raw<RemoteChat>();
  /** Whether a question can be asked. */
  readonly ready = $derived(this.chat !== undefined && !this.answering);
  private worker: ModelWorker | undefined;
  private controller = new AbortController();

  constructor(private readonly preset: string) {}

  /** Starts a Worker, and another one when the browser has ended it. */
  async start(): Promise<void> {
    const worker = new ModelWorker(new Worker(new URL('./model.worker.ts', import.meta.url), {type: 'module'}));
    this.worker = worker;
    void worker.ended.then(({reason}) => {
      this.chat = undefined;
      this.messages = [];
      if (reason === 'lost') void this.start();
    });
    try {
      const lm = await worker.loadCausalLM(this.preset, {
        onProgress: ({loaded, total}) => (this.status = `Loading: ${Math.round((100 * loaded) / total)} %`),
      });
      this.chat = await lm.startChat();
      const backend = (await worker.describeBackends()).find(({inUse}) => inUse);
      this.status = `${this.preset} is ready on "${backend?.name}".`;
    } catch (error) {
      this.status = String(error);
    }
  }

  end(): void {
    this.worker?.terminate();
  }

  async ask(question: string): Promise<void> {
    const {chat} = this;
    if (!chat) return;
    this.controller = new AbortController();
    const {signal} = this.controller;
    this.messages.push({role: 'user', content: question}, {role: 'assistant', content: ''});
    this.answering = true;
    try {
      const answer = chat.stream(question, {signal});
      for await (const piece of answer) this.messages.at(-1)!.content += piece;
      this.status = `${answer.ending!.usage.newTokens} tokens, ${chat.length} of ${chat.maxLength} in the conversation.`;
    } catch (error) {
      this.status = signal.aborted ? 'Stopped.' : String(error);
    } finally {
      this.answering = false;
    }
  }

  stop(): void {
    this.controller.abort();
  }
}
