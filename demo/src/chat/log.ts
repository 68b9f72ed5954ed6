/** The messages of a conversation on the page. */
import {type RemoteCausalLM} from 'tfjs-gemma3/worker';
import {byId, h} from '../base/dom';
import {type Message} from '../base/database';
import {copyButton, render} from './markdown';
import {pictureView} from '../engine/picture_view';

export interface LogActions {
  edit(index: number, text: string): void;
  again(): void;
}

const REASONS = {stop: '', length: ', cut at the maximum length', aborted: ', stopped'};

function numbersOf({tokens, seconds, reason, by}: NonNullable<Message['numbers']>): string {
  const speed = tokens > 1 && seconds > 0 ? `, ${((tokens - 1) / seconds).toFixed(1)} tokens/s` : '';
  return `${tokens} ${tokens === 1 ? 'token' : 'tokens'}${speed}${REASONS[reason]} · ${by}`;
}

export class Log {
  private readonly box = byId('log');
  private streaming: {body: HTMLElement; text: string; frame: number} | undefined;

  constructor(private readonly actions: LogActions) {}

  /** Shows all messages. */
  show(messages: readonly Message[], lm: RemoteCausalLM | undefined, busy: boolean): void {
    this.streaming = undefined;
    if (messages.length === 0) {
      this.box.replaceChildren(this.welcome());
      return;
    }
    this.box.replaceChildren(...messages.map((message, i) => this.message(message, i, messages.length, lm, busy)));
    this.toEnd(true);
  }

  private welcome(): HTMLElement {
    const examples = ['What is the capital of France?', 'On which continent is Kenya?', 'Hello!'];
    const field = byId<HTMLTextAreaElement>('question');
    const buttons = examples.map(text =>
      h('button', {type: 'button', onclick: () => ((field.value = text), byId<HTMLFormElement>('composer').requestSubmit())}, text),
    ); // prettier-ignore
    return h(
      'div',
      {className: 'welcome'},
      h('p', {className: 'heading'}, 'Everything stays on this machine.'),
      h('p', {}, 'The model runs in this page. What you write, and the pictures you show it, are not sent anywhere.'),
      h('p', {className: 'note'}, 'gemma3_tiny is a very small Gemma 3: it knows capitals, continents and shapes in pictures. Choose a larger one under Model.'),
      h('div', {className: 'examples'}, ...buttons),
    ); // prettier-ignore
  }

  private message(
    {role, text, pictures = [], numbers}: Message,
    index: number,
    count: number,
    lm: RemoteCausalLM | undefined,
    busy: boolean,
  ): HTMLElement {
    const isUser = role === 'user';
    const body = h('div', {className: 'body'});
    if (isUser) body.append(h('p', {className: 'plain'}, text));
    else body.append(render(text));
    const row = h(
      'div',
      {className: 'actions'},
      copyButton('Copy', () => text),
    );
    if (isUser && !busy) {
      row.append(
        h('button', {type: 'button', className: 'quiet', onclick: () => this.edit(article, index, text)}, 'Edit'),
      );
    }
    if (!isUser && index === count - 1 && !busy) {
      row.append(
        h('button', {type: 'button', className: 'quiet', onclick: () => this.actions.again()}, 'Answer again'),
      );
    }
    const article = h(
      'article',
      {className: `message ${role}`},
      h('h3', {}, isUser ? 'You' : 'Gemma'),
      pictures.length > 0 &&
        h('div', {className: 'pictures'}, ...pictures.map((one, i) => pictureView(lm, one, i + 1))),
      body,
      h('footer', {}, row, numbers && h('span', {className: 'note'}, numbersOf(numbers))),
    );
    return article;
  }

  private edit(article: HTMLElement, index: number, text: string): void {
    const field = h('textarea', {
      value: text,
      rows: Math.min(8, text.split('\n').length + 1),
      'aria-label': 'Edit the message',
    });
    const before = [...article.childNodes];
    const cancel = () => {
      article.replaceChildren(...before);
      article.querySelector<HTMLElement>('.actions button:last-child')?.focus();
    };
    const form = h(
      'form',
      {
        className: 'edit',
        onsubmit: event => {
          event.preventDefault();
          if (field.value.trim()) this.actions.edit(index, field.value);
        },
      },
      field,
      h(
        'div',
        {className: 'row'},
        h('button', {type: 'button', onclick: cancel}, 'Cancel'),
        h('button', {className: 'primary'}, 'Send again'),
      ),
    );
    field.onkeydown = event => {
      if (event.key === 'Escape') cancel();
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    };
    article.replaceChildren(h('h3', {}, 'You'), form);
    field.focus();
  }

  /** Adds an answer that is still being written. */
  begin(): void {
    const body = h('div', {className: 'body'}, h('p', {className: 'waiting'}, '…'));
    this.box.append(
      h('article', {className: 'message assistant', 'aria-busy': 'true'}, h('h3', {}, 'Gemma'), body, h('footer')),
    );
    this.streaming = {body, text: '', frame: 0};
    this.toEnd(true);
  }

  /** Shows the text of that answer so far, at most once a frame. */
  write(text: string): void {
    const {streaming} = this;
    if (!streaming) return;
    streaming.text = text;
    streaming.frame ||= requestAnimationFrame(() => {
      streaming.frame = 0;
      const wasAtEnd = this.isAtEnd();
      streaming.body.replaceChildren(render(streaming.text));
      if (wasAtEnd) this.toEnd(true);
    });
  }

  private isAtEnd(): boolean {
    const {scrollHeight, scrollTop, clientHeight} = this.box;
    return scrollHeight - scrollTop - clientHeight < 80;
  }

  private toEnd(always: boolean): void {
    if (always || this.isAtEnd()) this.box.scrollTop = this.box.scrollHeight;
  }
}
