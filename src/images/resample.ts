/**
 * Resizes images exactly like TensorFlow's kernels: in float32 and in the same order of operations, because results are
 * rounded to integers afterwards, so even the last bit can matter.
 */
import {type Interpolation} from './choices';
import {checkImageSize, type Pixels} from './pixels';

const f = Math.fround;

/**
 * Resizes to `height` and `width`, as floats.
 *
 * @throws ValueError if resizing in two steps needs more pixels than `MAX_IMAGE_PIXELS`.
 */
export function resample(
  image: Pixels,
  [height, width]: readonly [number, number],
  interpolation: Interpolation,
  antialias: boolean,
): Pixels & {values: Float32Array} {
  if (height === image.height && width === image.width) return {...image, values: Float32Array.from(image.values)};
  if (interpolation === 'bilinear' && !antialias) return bilinear(image, height, width);
  checkImageSize(image.width, height, ' after its height was resized');
  const rows = tapsFor(image.height, height, interpolation, antialias);
  const columns = tapsFor(image.width, width, interpolation, antialias);
  return applyToColumns(applyToRows(image, rows), columns);
}

/** The two neighbouring inputs of each output, and its position between them. */
function lerpsFor(inputs: number, outputs: number): {lower: Int32Array; upper: Int32Array; part: Float32Array} {
  const scale = f(inputs / outputs);
  const [lower, upper, part] = [new Int32Array(outputs), new Int32Array(outputs), new Float32Array(outputs)];
  for (let i = 0; i < outputs; i++) {
    const at = f(f(f(i + 0.5) * scale) - 0.5);
    lower[i] = Math.max(0, Math.floor(at));
    upper[i] = Math.min(inputs - 1, Math.ceil(at));
    part[i] = at - Math.floor(at);
  }
  return {lower, upper, part};
}

function bilinear({height, width, channels, values}: Pixels, rows: number, columns: number) {
  const vertical = lerpsFor(height, rows);
  const horizontal = lerpsFor(width, columns);
  const output = new Float32Array(rows * columns * channels);
  let to = 0;
  for (let y = 0; y < rows; y++) {
    const upper = vertical.lower[y]! * width * channels;
    const lower = vertical.upper[y]! * width * channels;
    const down = vertical.part[y]!;
    for (let x = 0; x < columns; x++) {
      const left = horizontal.lower[x]! * channels;
      const right = horizontal.upper[x]! * channels;
      const across = horizontal.part[x]!;
      for (let c = 0; c < channels; c++) {
        const upperLeft = values[upper + left + c]!;
        const lowerLeft = values[lower + left + c]!;
        const top = f(upperLeft + f(f(values[upper + right + c]! - upperLeft) * across));
        const bottom = f(lowerLeft + f(f(values[lower + right + c]! - lowerLeft) * across));
        output[to++] = top + f(f(bottom - top) * down);
      }
    }
  }
  return {height: rows, width: columns, channels, values: output};
}

// === Weighted sums ===

/** One output is the weighted sum of the inputs from `start` on. */
interface Taps {
  start: number;
  weights: number[];
}

interface Kernel {
  radius: number;
  weight(distance: number): number;
}

const PI = f(Math.PI);
const triangle: Kernel = {radius: 1, weight: x => (x < 1 ? 1 - x : 0)};
const keysCubic: Kernel = {
  radius: 2,
  weight(x) {
    if (x >= 2) return 0;
    return x >= 1 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : (1.5 * x - 2.5) * x * x + 1;
  },
};
const lanczos = (radius: number): Kernel => ({
  radius,
  weight(x) {
    if (x > radius) return 0;
    if (x <= 1e-3) return 1;
    const angle = f(PI * x);
    const waves = f(f(radius * f(Math.sin(angle))) * f(Math.sin(f(angle / radius))));
    return waves / f(f(f(PI * PI) * x) * x);
  },
});

function tapsFor(inputs: number, outputs: number, interpolation: Interpolation, antialias: boolean): Taps[] {
  const each = (taps: (i: number) => Taps) => Array.from({length: outputs}, (_, i) => taps(i));
  if (interpolation === 'nearest') {
    const scale = f(inputs / outputs);
    return each(i => ({start: Math.min(inputs - 1, Math.floor(f(f(i + 0.5) * scale))), weights: [1]}));
  }
  if (interpolation === 'bicubic' && !antialias) {
    const scale = f(inputs / outputs);
    return each(i => cubicTaps(f(f(f(i + 0.5) * scale) - 0.5), inputs));
  }
  const kernels = {bilinear: triangle, bicubic: keysCubic, lanczos3: lanczos(3), lanczos5: lanczos(5)};
  return kernelTaps(inputs, outputs, kernels[interpolation], antialias);
}

/** Steps of the table in which TensorFlow looks up the weights of `bicubic`. */
const CUBIC_STEPS = 1024;

function cubicTaps(at: number, inputs: number): Taps {
  const start = Math.floor(at);
  const part = Math.round(f(at - start) * CUBIC_STEPS) / CUBIC_STEPS;
  const inside = [-1, 0, 1, 2].filter(offset => start + offset >= 0 && start + offset < inputs);
  const weights = inside.map(offset => f(keysCubic.weight(Math.abs(offset - part))));
  return {start: start + inside[0]!, weights: normalized(weights)};
}

function kernelTaps(inputs: number, outputs: number, kernel: Kernel, antialias: boolean): Taps[] {
  const step = f(1 / f(outputs / inputs));
  // When an image shrinks, antialiasing widens the kernel to the distance between outputs.
  const stretch = antialias ? Math.max(step, 1) : 1;
  const reach = f(kernel.radius * stretch);
  const inverse = f(1 / stretch);
  return Array.from({length: outputs}, (_, i) => {
    const at = f((i + 0.5) * step);
    const start = Math.max(0, Math.min(inputs - 1, Math.ceil(f(f(at - reach) - 0.5))));
    const end = Math.max(0, Math.min(inputs - 1, Math.floor(f(f(at + reach) - 0.5))));
    const weights = Array.from({length: end - start + 1}, (_, k) =>
      f(kernel.weight(Math.abs(f(f(f(start + k + 0.5) - at) * inverse)))),
    );
    return {start, weights: normalized(weights)};
  });
}

function normalized(weights: number[]): number[] {
  const inverse = f(1 / weights.reduce((sum, weight) => f(sum + weight), 0));
  return weights.map(weight => f(weight * inverse));
}

function applyToRows({width, channels, values}: Pixels, taps: readonly Taps[]): Pixels {
  const length = width * channels;
  const output = new Float32Array(taps.length * length);
  taps.forEach(({start, weights}, row) => {
    const to = output.subarray(row * length, (row + 1) * length);
    weights.forEach((weight, k) => {
      const from = (start + k) * length;
      for (let i = 0; i < length; i++) to[i] = to[i]! + f(values[from + i]! * weight);
    });
  });
  return {height: taps.length, width, channels, values: output};
}

function applyToColumns({height, width, channels, values}: Pixels, taps: readonly Taps[]) {
  const output = new Float32Array(height * taps.length * channels);
  let to = 0;
  for (let row = 0; row < height; row++) {
    for (const {start, weights} of taps) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        const first = (row * width + start) * channels + c;
        for (let k = 0; k < weights.length; k++) sum = f(sum + f(values[first + k * channels]! * weights[k]!));
        output[to++] = sum;
      }
    }
  }
  return {height, width: taps.length, channels, values: output};
}
