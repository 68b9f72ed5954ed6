/** Describes problems, and offers ways to continue. */
import {OutOfMemoryError, WorkerEndedError} from 'tfjs-gemma3/worker';
import {byId, h} from '../base/dom';
import {messageOf} from '../base/format';

export interface WayOn {
  label: string;
  run: () => void;
}

export type Kind = 'memory' | 'gpu' | 'ended' | 'other';

/** Kinds of problems. With the first three, the model is lost. */
export function kindOf(error: unknown): Kind {
  if (error instanceof OutOfMemoryError) return 'memory';
  if (error instanceof WorkerEndedError) return error.reason === 'lost' ? 'memory' : 'ended';
  const text = messageOf(error);
  if (/GPU device was lost|GPUDevice|device is lost/i.test(text)) return 'gpu';
  return /out of memory|Array buffer allocation failed/i.test(text) ? 'memory' : 'other';
}

export const TITLES: Record<Kind, string> = {
  memory: 'Memory ran out.',
  gpu: 'The graphics device was lost.',
  ended: "The model's Worker has ended.",
  other: 'That did not work.',
};

/** Shows a message with buttons at the top of the page, until one is used. */
export function showTrouble(title: string, detail: string, ways: readonly WayOn[]): void {
  const buttons = ways.map(({label, run}) =>
    h('button', {
      type: 'button',
      onclick: () => {
        hideTrouble();
        run();
      },
    }, label),
  ); // prettier-ignore
  byId('trouble').replaceChildren(
    h(
      'div',
      {className: 'trouble'},
      h('strong', {}, title),
      h('p', {}, detail),
      h('div', {className: 'row'}, ...buttons),
    ),
  );
}

export const hideTrouble = (): void => byId('trouble').replaceChildren();
