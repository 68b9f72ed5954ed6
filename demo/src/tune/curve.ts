/** The loss of each step as a line, with its average. */
import {byId} from '../base/dom';

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT, LEFT, BOTTOM] = [480, 200, 44, 24];

function svg(name: string, attributes: Record<string, string | number>, text = ''): SVGElement {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.textContent = text;
  return element;
}

/** A running mean over the last tenth of the steps. */
function smoothed(values: readonly number[]): number[] {
  const window = Math.max(1, Math.round(values.length / 10));
  return values.map((_, i) => {
    const part = values.slice(Math.max(0, i - window + 1), i + 1);
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
}

export class LossCurve {
  private losses: number[] = [];
  private frame = 0;

  constructor(private total = 1) {
    this.draw();
  }

  start(total: number): void {
    this.losses = [];
    this.total = total;
    this.draw();
  }

  add(loss: number, total: number): void {
    this.losses.push(loss);
    this.total = Math.max(total, this.losses.length);
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  private draw(): void {
    this.frame = 0;
    const {losses, total} = this;
    const most = losses.length > 0 ? Math.max(0.1, ...losses.filter(Number.isFinite)) * 1.05 : 1;
    const x = (step: number) => LEFT + (step / Math.max(1, total - 1)) * (WIDTH - LEFT - 8);
    const y = (loss: number) => 8 + (1 - loss / most) * (HEIGHT - BOTTOM - 8);
    const last = losses.at(-1);
    const label =
      last === undefined
        ? 'Loss of each step: none yet'
        : `Loss of each step: from ${losses[0]!.toFixed(2)} to ${last.toFixed(2)} after ${losses.length} of ${total} steps`;
    const figure = svg('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label});
    for (const part of [0, 0.5, 1]) {
      const at = y(part * most);
      figure.append(svg('line', {x1: LEFT, x2: WIDTH - 8, y1: at, y2: at, class: 'axis'}));
      figure.append(
        svg('text', {x: LEFT - 8, y: at + 4, 'text-anchor': 'end'}, (part * most).toFixed(most < 1 ? 2 : 1)),
      );
    }
    figure.append(svg('text', {x: LEFT, y: HEIGHT - 4}, 'step 1'));
    figure.append(svg('text', {x: WIDTH - 8, y: HEIGHT - 4, 'text-anchor': 'end'}, String(total)));
    const points = (values: readonly number[]) =>
      values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
    figure.append(svg('polyline', {points: points(losses), class: 'steps'}));
    figure.append(svg('polyline', {points: points(smoothed(losses)), class: 'mean'}));
    byId('curve').replaceChildren(figure);
  }
}
