/** The few helpers that replace a framework. */

/** An element by its id. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const element = document.getElementById(id);
  if (!element) throw new Error(`Expected an element with the id "${id}" in index.html.`);
  return element as E;
}

type Child = Node | string | undefined | false;
type Properties<E> = {[K in keyof E]?: E[K] | undefined} & {[name: `data-${string}` | `aria-${string}`]: string};

/** Creates an element: `h('button', {type: 'button', onclick: save}, 'Save')`. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties<HTMLElementTagNameMap[K]> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (/^(data|aria)-/.test(name)) element.setAttribute(name, String(value));
    else (element as unknown as Record<string, unknown>)[name] = value;
  }
  element.append(...children.filter(child => child !== undefined && child !== false));
  return element;
}

/** Announces a text to screen readers. */
export function announce(text: string): void {
  byId('announcer').textContent = text;
}

/** Removes a text after a while, unless it has been replaced. */
export function flash(element: HTMLElement, text: string): void {
  element.textContent = text;
  setTimeout(() => element.textContent === text && (element.textContent = ''), 4000);
}
