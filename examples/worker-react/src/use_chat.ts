/** A conversation with a model in a Worker, as state of React. */
import {useCallback, useEffect, useRef, useState} from 'react';
import {ModelWorker, type RemoteChat} from 'tfjs-gemma3/worker';

export interface Message {
  role: 'user' | 'assistant';
  content: string;
}

export interface Chat {
  messages: readonly Message[];
  /** The status, as text for users. */
  status: string;
  /** Whether a question can be asked. */
  ready: boolean;
  answering: boolean;
  ask(question: string): Promise<void>;
  stop(): void;
}

export function useChat(preset: string): Chat {
  const [messages, setMessages] = useState<readonly Message[]>([]);
  const [status, setStatus] = useState('The model is loading…');
  const [chat, setChat] = useState<RemoteChat>();
  const [answering, setAnswering] = useState(false);
  /** Counts the Workers: another one starts when the browser has ended the last one. */
  const [attempt, setAttempt] = useState(0);
  const controller = useRef<AbortController>(undefined);

  useEffect(() => {
    let current = true;
    const worker = new ModelWorker(new Worker(new URL('./model.worker.ts', import.meta.url), {type: 'module'}));
    void worker.ended.then(({reason}) => {
      if (!current) return;
      setChat(undefined);
      setMessages([]);
      if (reason === 'lost') setAttempt(count => count + 1);
    });
    const load = async () => {
      const lm = await worker.loadCausalLM(preset, {
        onProgress: ({loaded, total}) => current && setStatus(`Loading: ${Math.round((100 * loaded) / total)} %`),
      });
      const started = await lm.startChat();
      const backend = (await worker.describeBackends()).find(({inUse}) => inUse);
      if (!current) return;
      setChat(started);
      setStatus(`${preset} is ready on "${backend?.name}".`);
    };
    load().catch(error => current && setStatus(String(error)));
    return () => {
      current = false;
      worker.terminate();
    };
  }, [preset, attempt]);

  const ask = useCallback(
    async (question: string) => {
      if (!chat) return;
      controller.current = new AbortController();
      const {signal} = controller.current;
      let content = '';
      const show = (before: readonly Message[]) =>
        setMessages([...before, {role: 'user', content: question}, {role: 'assistant', content}]);
      const before = messages;
      setAnswering(true);
      show(before);
      try {
        const answer = chat.stream(question, {signal});
        for await (const piece of answer) {
          content += piece;
          show(before);
        }
        setStatus(`${answer.ending!.usage.newTokens} tokens, ${chat.length} of ${chat.maxLength} in the conversation.`);
      } catch (error) {
        setStatus(signal.aborted ? 'Stopped.' : String(error));
      } finally {
        setAnswering(false);
      }
    },
    [chat, messages],
  );
  const stop = useCallback(() => controller.current?.abort(), []);
  return {messages, status, ready: chat !== undefined && !answering, answering, ask, stop};
}
