/** The three sections of the page, one at a time, by the fragment of the address. */

const panels = [...document.querySelectorAll<HTMLElement>('[data-panel]')];
const links = [...document.querySelectorAll<HTMLAnchorElement>('nav a')];

const namedBy = (hash: string) => panels.find(panel => `#${panel.dataset.panel}` === hash);

function show(panel: HTMLElement): void {
  for (const other of panels) other.hidden = other !== panel;
  for (const link of links) {
    if (link.hash === `#${panel.dataset.panel}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${panel.querySelector('h2')!.textContent} · Gemma 3 on this machine`;
}

export function showSections(): void {
  const first = namedBy(location.hash) ?? panels[0]!;
  show(first);
  addEventListener('hashchange', () => {
    const panel = location.hash === '' ? panels[0] : namedBy(location.hash);
    // For example that of the link that skips to the content.
    if (!panel) return;
    show(panel);
    scrollTo(0, 0);
    // So that a screen reader continues there.
    panel.querySelector('h2')!.focus({preventScroll: true});
  });
}
