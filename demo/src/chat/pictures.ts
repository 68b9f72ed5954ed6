/** Pictures of a message: chosen, dropped, pasted or taken, and shown as the model sees them. */
import {announce, byId, h} from '../base/dom';
import {takeFiles} from '../base/files';
import {type Engine} from '../engine/engine';
import {pictureView} from '../engine/picture_view';
import {takePicture} from './camera';

const isPicture = ({type}: File) => type.startsWith('image/');

export class Attachments {
  private files: File[] = [];
  private readonly list = byId('attachments');

  constructor(
    private readonly engine: Engine,
    private readonly say: (problem: string) => void,
  ) {
    const input = byId<HTMLInputElement>('picture-files');
    input.onchange = () => this.add(takeFiles(input));
    byId('camera').onclick = () => void takePicture().then(picture => picture && this.add([picture]));
    byId('question').onpaste = event => {
      const pasted = Array.from(event.clipboardData?.files ?? []).filter(isPicture);
      if (pasted.length === 0) return;
      event.preventDefault();
      this.add(pasted);
    };
    this.takeDrops(byId('talk'));
  }

  private takeDrops(place: HTMLElement): void {
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
    place.ondragover = event => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      place.dataset.drop = 'yes';
    };
    place.ondragleave = () => delete place.dataset.drop;
    place.ondrop = event => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      delete place.dataset.drop;
      const dropped = Array.from(event.dataTransfer!.files);
      const pictures = dropped.filter(isPicture);
      if (pictures.length < dropped.length) this.say('Only pictures can be dropped here.');
      this.add(pictures);
    };
  }

  /** Adds pictures to the message. */
  add(files: readonly File[]): void {
    const {model} = this.engine;
    if (files.length > 0 && model && !model.lm.info.readsImages) {
      this.say(`${model.source.label} reads text only. Choose a model that reads pictures.`);
      return;
    }
    this.files = [...this.files, ...files];
    this.show();
    if (files.length > 0) announce(`${files.length === 1 ? 'One picture' : `${files.length} pictures`} added.`);
  }

  /** The pictures, which are then no longer attached. */
  take(): File[] {
    const {files} = this;
    this.files = [];
    this.show();
    return files;
  }

  private show(): void {
    this.list.replaceChildren(
      ...this.files.map((file, i) => {
        const remove = () => {
          this.files = this.files.filter(other => other !== file);
          this.show();
          byId('question').focus();
        };
        const label = `Remove ${file.name || `picture ${i + 1}`}`;
        const button = h(
          'button',
          {type: 'button', className: 'quiet remove', 'aria-label': label, onclick: remove},
          '×',
        );
        return h('li', {}, pictureView(this.engine.model?.lm, file, i + 1), button);
      }),
    );
  }
}
