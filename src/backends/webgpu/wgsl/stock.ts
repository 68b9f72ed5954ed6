/** Replacements for tfjs' programs that compute wrong results or do not compile. */
import {type Program} from '../program';

/** The index of each axis in an array of sizes with up to six axes, as numbers `size0` to `size5`. */
const AXES = [0, 1, 2, 3, 4, 5] as const;
const perAxis = (name: string) => Object.fromEntries(AXES.map(axis => [`${name}${axis}`, 'u32' as const]));

/** Values of the numbers of {@link perAxis}; missing axes come first. */
export const axisNumbers = (name: string, values: readonly number[], missing: number): Record<string, number> =>
  Object.fromEntries(AXES.map(axis => [`${name}${axis}`, values[axis - 6 + values.length] ?? missing]));

/** The sum of coordinate · stride over the axes of `index`, which is used up. */
const walk = (strides: readonly string[]) =>
  [...AXES]
    .reverse()
    .map(
      axis => `
  {
    let c = rest % n.size${axis};
    rest /= n.size${axis};
    ${strides.map(name => `${name} += c * n.${name}${axis};`).join(' ')}
  }`,
    )
    .join('');

/** Words of x in a different order of axes: y (size…) = x at strides. */
export const transpose: Program = {
  name: 'transpose',
  size: 64,
  reads: {x: 'array<u32>'},
  writes: {y: 'array<u32>'},
  numbers: {count: 'u32', ...perAxis('size'), ...perAxis('from')},
  body: `
  let index = group * SIZE + lane;
  if (index >= n.count) { return; }
  var rest = index;
  var from_ = 0u;${walk(['from']).replaceAll('from +=', 'from_ +=')}
  y[index] = x[from_];`,
};

/** Rows of x (rows, width) by index; zeros for indices out of range. */
export const gatherWords: Program = {
  name: 'gather_words',
  size: 64,
  reads: {x: 'array<u32>', ids: 'array<u32>'},
  writes: {y: 'array<u32>'},
  numbers: {count: 'u32', rows: 'u32', width: 'u32'},
  body: `
  let index = group * SIZE + lane;
  if (index >= n.count) { return; }
  let id = ids[index / n.width];
  y[index] = select(0u, x[min(id, n.rows - 1u) * n.width + index % n.width], id < n.rows);`,
};

/** Floor modulus of int32, with broadcasting: y (size…) = a mod b. */
export const modulus: Program = {
  name: 'modulus',
  size: 64,
  reads: {a: 'array<i32>', b: 'array<i32>'},
  writes: {y: 'array<i32>'},
  numbers: {count: 'u32', ...perAxis('size'), ...perAxis('left'), ...perAxis('right')},
  body: `
  let index = group * SIZE + lane;
  if (index >= n.count) { return; }
  var rest = index;
  var left = 0u;
  var right = 0u;${walk(['left', 'right'])}
  let divisor = b[right];
  let remainder = a[left] % divisor;
  y[index] = select(remainder, remainder + divisor, remainder != 0 && (remainder < 0) != (divisor < 0));`,
};
