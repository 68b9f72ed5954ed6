/** Answers as Markdown. What a model writes is text: none of its HTML is executed, and it requests nothing. */
import DOMPurify from 'dompurify';
import {Marked} from 'marked';
import {h} from '../base/dom';

const escape = (text: string): string => text.replace(/[&<>"']/g, sign => `&#${sign.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // Tags are shown as they were written.
    html: ({text}) => escape(text),
    // A picture would be a request to another host.
    image: ({text, href}) => escape(text || href),
  },
});

const TAGS =
  'p br hr strong em del code pre ul ol li blockquote h1 h2 h3 h4 h5 h6 table thead tbody tr th td a input'.split(' ');

DOMPurify.addHook('afterSanitizeAttributes', element => {
  if (!element.hasAttribute('href')) return;
  element.setAttribute('target', '_blank');
  element.setAttribute('rel', 'noopener noreferrer');
});

/** A button that copies a text, and says that it has. */
export function copyButton(label: string, text: () => string): HTMLButtonElement {
  const button = h('button', {type: 'button', className: 'quiet copy'}, label);
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = 'Copied';
    } catch {
      button.textContent = 'The browser refused';
    }
    setTimeout(() => (button.textContent = label), 2000);
  };
  return button;
}

/** The elements of a text in Markdown. */
export function render(text: string): DocumentFragment {
  const fragment = DOMPurify.sanitize(marked.parse(text, {async: false}), {
    RETURN_DOM_FRAGMENT: true,
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ['href', 'start', 'align', 'type', 'checked', 'disabled'],
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  });
  // Headings of an answer are below those of the page.
  for (const heading of fragment.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
    heading.replaceWith(h('p', {className: 'heading'}, ...heading.childNodes));
  }
  for (const input of fragment.querySelectorAll('input')) input.replaceWith(input.checked ? '☑ ' : '☐ ');
  for (const block of fragment.querySelectorAll('pre')) {
    block.tabIndex = 0;
    const box = h('div', {className: 'code'});
    block.replaceWith(box);
    box.append(
      block,
      copyButton('Copy', () => block.textContent),
    );
  }
  for (const table of fragment.querySelectorAll('table')) {
    const box = h('div', {className: 'scroll', tabIndex: 0});
    table.replaceWith(box);
    box.append(table);
  }
  return fragment;
}
