/** The measurements as text. */

const median = values => [...values].sort((a, b) => a - b)[values.length >> 1];

/** Rows as columns of equal width. */
function table(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map(row => row[i].length)));
  return rows
    .map(row =>
      row
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

const megabytes = bytes => `${(bytes / 1e6).toFixed(1)} MB`;
const gigabytes = bytes => `${(bytes / 1e9).toFixed(2)} GB/s`;
const all = (values, digits) => values.map(value => value.toFixed(digits)).join(' ');

/**
 * @param sides {key, name, version, model, adapter?, weightBytes?, runs, counts?, failure?} each
 * @param copySpeeds bytes per second of a plain copy, before and after the runs; empty if it was not measured
 */
export function reportOf(sides, copySpeeds, {words, tokens}) {
  const measured = sides.filter(({runs}) => runs.length > 0);
  const ours = measured.find(({key}) => key === 'ours');
  const speed = ({runs}) => median(runs.map(({tokensPerSecond}) => tokensPerSecond));
  const lines = [new Date().toISOString().slice(0, 10), navigator.userAgent];
  for (const {name, version, model, adapter} of measured) {
    lines.push(`${name} ${version}: ${model}${adapter ? `; ${adapter}` : ''}`);
  }
  for (const {name, version, failure} of sides.filter(({failure}) => failure)) {
    lines.push(`${name} ${version ?? ''} has no numbers: ${failure}`.replace('  ', ' '));
  }
  if (measured.length === 0) return lines.join('\n');
  lines.push(
    '',
    table([
      ['', 'TOKENS/S', 'OURS IS', 'FIRST TOKEN', 'PROMPT', 'NEW', 'DISPATCHES', 'SUBMISSIONS', 'BYTES READ'],
      ...measured.map(side => {
        const {name, runs, counts} = side;
        const [{promptTokens, tokens: made}] = runs;
        const each = (count, digits) => (counts ? (count / counts.tokens).toFixed(digits) : '');
        return [
          name,
          speed(side).toFixed(1),
          ours && side !== ours ? `${(speed(ours) / speed(side)).toFixed(2)} x` : '',
          `${median(runs.map(({firstSeconds}) => firstSeconds)).toFixed(3)} s`,
          String(promptTokens),
          String(made),
          each(counts?.dispatches, 1),
          each(counts?.submissions, 2),
          each(counts?.bytes, 1),
        ];
      }),
    ]),
    `medians; prompt of ${words} words, ${tokens} new tokens, greedy. The last three columns are per new token, the prompt ` +
      'included, counted in a run of their own.',
  );
  if (ours && copySpeeds.length > 0) {
    const copy = Math.max(...copySpeeds);
    const read = ours.weightBytes * speed(ours);
    lines.push(
      '',
      `${ours.name} reads ${megabytes(ours.weightBytes)} of weights for a token: ${gigabytes(read)}, ` +
        `${((100 * read) / copy).toFixed(1)} % of a plain copy, which reads and writes ${gigabytes(copy)} together ` +
        `(measured: ${copySpeeds.map(gigabytes).join(', ')}).`,
    );
  }
  lines.push('', 'every run, tokens/s, then seconds to the first token:');
  for (const {name, runs} of measured) {
    const [speeds, firsts] = [runs.map(run => run.tokensPerSecond), runs.map(run => run.firstSeconds)];
    lines.push(`${name}: ${all(speeds, 1)} | ${all(firsts, 3)}`);
  }
  return lines.join('\n');
}
