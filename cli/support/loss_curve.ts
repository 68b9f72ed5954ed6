/** An SVG chart of the loss over the steps of a training run. */

export interface LossCurve {
  title: string;
  /** Loss of each step; null where it was not recorded. */
  losses: readonly (number | null)[];
  /** Validation losses, each with the step after which it was measured. */
  validation: readonly {step: number; loss: number}[];
}

type Point = readonly [number, number];

const [WIDTH, HEIGHT] = [800, 400];
const PLOT = {left: 64, top: 48, right: WIDTH - 24, bottom: HEIGHT - 48};

/** About `count` round numbers from 0 to at least `end`, for the ticks of an axis. */
function ticks(end: number, count: number): number[] {
  const rough = end / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * unit).find(value => value >= rough)!;
  return Array.from({length: Math.ceil(end / step - 1e-9) + 1}, (_, i) => i * step);
}

const label = (value: number): string => String(Number(value.toPrecision(6)));
const escaped = (text: string): string =>
  text.replace(/[&<>]/g, character => ({'&': '&amp;', '<': '&lt;', '>': '&gt;'})[character]!);

/** A moving average, because the losses of single batches vary a lot. */
function smoothed(points: readonly Point[]): Point[] {
  const weight = Math.max(1 / 20, 2 / (1 + points.length / 10));
  let mean: number | undefined;
  return points.map(([step, loss]) => {
    mean = mean === undefined ? loss : mean + Math.min(1, weight) * (loss - mean);
    return [step, mean];
  });
}

/** The chart as the text of an SVG file, which browsers and most image viewers open. */
export function lossCurveSvg({title, losses, validation}: LossCurve): string {
  const points = losses.flatMap((loss, i): Point[] => (loss === null ? [] : [[i + 1, loss]]));
  const measured = validation.map(({step, loss}): Point => [step, loss]);
  const across = ticks(Math.max(1, losses.length, ...measured.map(([step]) => step)), 8);
  const up = ticks(
    [...points, ...measured].reduce((most, [, loss]) => Math.max(most, loss), 1e-6),
    5,
  );
  const x = (step: number) => PLOT.left + ((PLOT.right - PLOT.left) * step) / across.at(-1)!;
  const y = (loss: number) => PLOT.bottom - ((PLOT.bottom - PLOT.top) * loss) / up.at(-1)!;
  const path = (line: readonly Point[]) =>
    line.map(([step, loss], i) => `${i ? 'L' : 'M'}${x(step).toFixed(1)} ${y(loss).toFixed(1)}`).join('');
  const text = (at: Point, content: string, anchor = 'middle') =>
    `<text x="${at[0].toFixed(1)}" y="${at[1].toFixed(1)}" text-anchor="${anchor}">${escaped(content)}</text>`;
  const legend = [
    ['#9db8d9', 'each step'],
    ['#1f5fa8', 'smoothed'],
    ...(measured.length ? [['#c0392b', 'validation']] : []),
  ].map(
    ([color, name], i) =>
      `<rect x="${PLOT.right - 300 + 100 * i}" y="30" width="12" height="4" fill="${color}"/>` +
      text([PLOT.right - 282 + 100 * i, 36], name!, 'start'),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${PLOT.left}" y="24" font-size="15">${escaped(title)}</text>`,
    ...up.map(loss => `<path d="M${PLOT.left} ${y(loss).toFixed(1)}H${PLOT.right}" stroke="#ddd"/>`),
    ...up.map(loss => text([PLOT.left - 8, y(loss) + 4], label(loss), 'end')),
    ...across.map(step => text([x(step), PLOT.bottom + 18], label(step))),
    text([(PLOT.left + PLOT.right) / 2, HEIGHT - 10], 'steps'),
    ...legend,
    `<path d="${path(points)}" fill="none" stroke="#9db8d9"/>`,
    `<path d="${path(smoothed(points))}" fill="none" stroke="#1f5fa8" stroke-width="2"/>`,
    ...(measured.length ? [`<path d="${path(measured)}" fill="none" stroke="#c0392b" stroke-width="2"/>`] : []),
    ...measured.map(
      ([step, loss]) => `<circle cx="${x(step).toFixed(1)}" cy="${y(loss).toFixed(1)}" r="3" fill="#c0392b"/>`,
    ),
    '</svg>\n',
  ].join('\n');
}
