/** The chat: questions, answers, and actions on them. */
import {ContextFullError} from 'tfjs-gemma3/worker';
import {announce, byId} from '../base/dom';
import {type Message} from '../base/database';
import {formatBytes, messageOf} from '../base/format';
import {type Engine} from '../engine/engine';
import {Conversations} from './conversations';
import {exportConversation} from './export';
import {Log} from './log';
import {Attachments} from './pictures';
import {Settings} from './settings';
import {Talk} from './talk';

export async function showChat(engine: Engine): Promise<void> {
  const form = byId<HTMLFormElement>('composer');
  const field = byId<HTMLTextAreaElement>('question');
  const send = byId<HTMLButtonElement>('send');
  const stop = byId<HTMLButtonElement>('stop');
  const numbers = byId('numbers');
  const talk = new Talk();
  let running: AbortController | undefined;

  const say = (text: string) => {
    numbers.textContent = text;
    announce(text);
  };
  const attachments = new Attachments(engine, say);
  const log = new Log({
    edit: (index, text) => {
      const {messages} = conversations.current;
      const {pictures} = messages[index]!;
      conversations.current.messages = messages.slice(0, index);
      void ask({role: 'user', text, ...(pictures && {pictures})});
    },
    again: () => {
      const {messages} = conversations.current;
      const question = messages.at(-2)!;
      conversations.current.messages = messages.slice(0, -2);
      void ask(question);
    },
  });
  const conversations = new Conversations(
    () => {
      settings.system = conversations.current.system;
      numbers.textContent = '';
      show();
    },
    () => running !== undefined,
  );
  const settings = new Settings(system => {
    conversations.current.system = system;
    void keep();
  });

  const show = () => log.show(conversations.current.messages, engine.model?.lm, running !== undefined);

  const enable = () => {
    send.disabled = running !== undefined || engine.model === undefined;
    send.hidden = running !== undefined;
    stop.hidden = running === undefined;
    byId<HTMLButtonElement>('new-conversation').disabled = running !== undefined;
  };

  async function showNumbers(): Promise<void> {
    const {context} = talk;
    const {heapBytes, numBytes} = await engine.memory();
    const used = context ? `${context.length} of ${context.maxLength} tokens used · ` : '';
    numbers.textContent = `${used}${formatBytes(heapBytes ?? numBytes)} of memory`;
  }

  async function ask(question: Message): Promise<void> {
    const {model} = engine;
    if (running || !model) return;
    const {current} = conversations;
    running = new AbortController();
    const {signal} = running;
    current.messages.push(question);
    enable();
    show();
    log.begin();
    announce('Gemma answers.');
    const tuned = settings.who === 'tuned' ? engine.tuned.get() : undefined;
    const by = tuned ? `${model.source.label}, tuned` : model.source.label;
    try {
      const answer = await talk.ask(current, {
        lm: tuned?.lm ?? model.lm,
        by,
        options: settings.options,
        maxLength: settings.maxLength,
        signal,
        onText: text => log.write(text),
      });
      if (answer.text === '' && answer.numbers.reason === 'aborted') takeBack(question);
      else current.messages.push({role: 'assistant', ...answer});
      announce(`Gemma: ${answer.text || 'nothing'}`);
      await showNumbers().catch(() => {});
      await keep();
    } catch (error) {
      takeBack(question);
      await talk.end();
      if (engine.handle(error)) say('The answer was lost. Your message is below again.');
      else if (error instanceof ContextFullError) {
        say('The conversation is full. Start a new one, or allow a longer one in the settings.');
      } else say(messageOf(error));
    } finally {
      running = undefined;
      enable();
      show();
    }
  }

  /** Saves the conversation, as far as the browser lets it. */
  async function keep(): Promise<void> {
    try {
      await conversations.save();
    } catch (error) {
      say(`The conversation was not saved: ${messageOf(error)}`);
    }
  }

  /** Puts a question without an answer back into the input. */
  function takeBack(question: Message): void {
    conversations.current.messages = conversations.current.messages.filter(message => message !== question);
    field.value ||= question.text;
    const files = (question.pictures ?? []).map((blob, i) =>
      blob instanceof File ? blob : new File([blob], `picture ${i + 1}`),
    );
    attachments.add(files);
  }

  form.onsubmit = event => {
    event.preventDefault();
    if (running || !engine.model) return;
    const text = field.value.trim();
    const pictures = attachments.take();
    if (!text && pictures.length === 0) return field.focus();
    field.value = '';
    void ask({role: 'user', text: text || 'What is in this image?', ...(pictures.length > 0 && {pictures})});
  };
  field.onkeydown = event => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  };
  stop.onclick = () => {
    running?.abort();
    field.focus();
  };
  byId('export').onclick = () => void exportConversation(conversations.current);
  engine.phase.watch(({kind}) => {
    enable();
    if (kind !== 'loading') void talk.end();
    if (kind === 'ready') settings.showLength(engine.model?.lm.info.sequenceLength);
    if (kind === 'ready' && !running) show();
  });
  engine.tuned.watch(tuned => {
    settings.offerTuned(tuned !== undefined);
    void talk.end();
  });
  // On a narrow screen the list would come before everything else.
  if (innerWidth < 900) byId<HTMLDetailsElement>('conversations-fold').open = false;
  else byId<HTMLDetailsElement>('settings-fold').open = innerWidth >= 1200;
  show();
  await conversations.start().catch((error: unknown) => say(`Conversations cannot be saved here: ${messageOf(error)}`));
}
