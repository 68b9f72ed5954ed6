/** The pictures that lines name: loaded, pasted or dropped, and shown as the model sees them. */
import {announce, byId, h} from '../base/dom';
import {type Engine} from '../engine/engine';
import {pictureView} from '../engine/picture_view';

const isPicture = ({type}: File): boolean => type.startsWith('image/');

export class LinePictures {
  private readonly files = new Map<string, File>();
  private readonly list = byId('tune-pictures');

  /**
   * @param lines where pictures are pasted, and their names are written.
   * @param changed called when they change.
   */
  constructor(
    private readonly engine: Engine,
    private readonly lines: HTMLTextAreaElement,
    private readonly changed: () => void,
  ) {
    lines.onpaste = event => this.takeInto(event, event.clipboardData);
    lines.ondrop = event => this.takeInto(event, event.dataTransfer);
    engine.phase.watch(({kind}) => kind === 'ready' && this.show());
  }

  /** All of them, by name. */
  get all(): ReadonlyMap<string, Blob> {
    return this.files;
  }

  /** Adds the pictures among some files. A picture replaces one of the same name. */
  add(files: readonly File[]): void {
    const pictures = files.filter(isPicture);
    if (pictures.length === 0) return;
    for (const picture of pictures) this.files.set(picture.name, picture);
    this.show();
    announce(`${pictures.length === 1 ? 'One picture' : `${pictures.length} pictures`} added.`);
    this.changed();
  }

  /** Adds pasted or dropped pictures, and inserts their names at the cursor. */
  private takeInto(event: Event, data: DataTransfer | null): void {
    const given = Array.from(data?.files ?? []).filter(isPicture);
    if (given.length === 0) return;
    event.preventDefault();
    // Browsers call everything that is pasted "image.png".
    const named = given.map(file => (event.type === 'paste' ? new File([file], this.freeName(), file) : file));
    const {selectionStart, selectionEnd} = this.lines;
    this.lines.setRangeText(named.map(({name}) => name).join(' '), selectionStart, selectionEnd, 'end');
    this.add(named);
  }

  private freeName(): string {
    let number = this.files.size + 1;
    while (this.files.has(`picture-${number}.png`)) number++;
    return `picture-${number}.png`;
  }

  private show(): void {
    const items = [...this.files].map(([name, file], i) => {
      const remove = () => {
        this.files.delete(name);
        this.show();
        this.changed();
        this.lines.focus();
      };
      const view = pictureView(this.engine.model?.lm, file, i + 1);
      view.append(h('figcaption', {className: 'note'}, name));
      const label = {'aria-label': `Remove ${name}`};
      return h(
        'li',
        {},
        view,
        h('button', {type: 'button', className: 'quiet remove', onclick: remove, ...label}, '×'),
      );
    });
    this.list.replaceChildren(...items);
    byId('tune-pictures-note').hidden = items.length === 0;
  }
}
