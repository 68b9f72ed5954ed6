/** Pictures as the model sees them. */
import {type RemoteCausalLM} from 'tfjs-gemma3/worker';
import {h} from '../base/dom';
import {messageOf} from '../base/format';

/** A picture as the model sees it, in a canvas of the model's size. */
export function pictureView(lm: RemoteCausalLM | undefined, picture: Blob, number: number): HTMLElement {
  const canvas = h('canvas', {width: 64, height: 64});
  const figure = h('figure', {className: 'picture'}, canvas);
  canvas.setAttribute('role', 'img');
  const label = picture instanceof File ? picture.name : `Picture ${number}`;
  canvas.setAttribute('aria-label', `${label}, as the model sees it`);
  void draw(lm, picture, canvas).catch((error: unknown) => {
    figure.replaceChildren(h('p', {className: 'problem'}, messageOf(error)));
  });
  return figure;
}

async function draw(lm: RemoteCausalLM | undefined, picture: Blob, canvas: HTMLCanvasElement): Promise<void> {
  if (!lm?.info.readsImages) {
    // Without a model, the picture is shown as it is.
    const bitmap = await createImageBitmap(picture);
    Object.assign(canvas, {width: bitmap.width, height: bitmap.height});
    canvas.getContext('2d')!.drawImage(bitmap, 0, 0);
    bitmap.close();
    return;
  }
  const {width, height, data} = await lm.previewImage(picture);
  Object.assign(canvas, {width, height});
  canvas.getContext('2d')!.putImageData(new ImageData(data, width, height), 0, 0);
}
