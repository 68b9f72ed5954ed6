/**
 * Random numbers for weights, a few nanoseconds each: the generator sfc32 (by C. Doty-Humphrey, from PractRand), and
 * normal values by the ziggurat method of Marsaglia and Tsang (2000), https://doi.org/10.18637/jss.v005.i08, with 256
 * layers.
 */

/** Layers of the ziggurat. */
const LAYERS = 256;
/** Where its last layer ends and the tail begins. */
const TAIL = 3.6541528853610088;
/** Area of each layer under exp(-x² / 2). */
const AREA = 0.00492867323399;
/** Apart from the bits that choose a layer, a draw has 24 bits: 23 for the size and a sign. */
const STEPS = 2 ** 23;

/**
 * For each layer: the width of a step, the bound below which a draw is certainly inside, and the density at its edge.
 */
const widths = new Float64Array(LAYERS);
const inside = new Int32Array(LAYERS);
const heights = new Float64Array(LAYERS);

function fillTables(): void {
  const density = (x: number) => Math.exp(-0.5 * x * x);
  let edge = TAIL;
  // The lowest layer is a rectangle plus the tail. It counts as a rectangle of the same area.
  const base = AREA / density(TAIL);
  widths[0] = base / STEPS;
  inside[0] = Math.floor((TAIL / base) * STEPS);
  heights[0] = 1;
  widths[LAYERS - 1] = TAIL / STEPS;
  heights[LAYERS - 1] = density(TAIL);
  for (let i = LAYERS - 2; i >= 1; i--) {
    const next = Math.sqrt(-2 * Math.log(AREA / edge + density(edge)));
    inside[i + 1] = Math.floor((next / edge) * STEPS);
    edge = next;
    widths[i] = edge / STEPS;
    heights[i] = density(edge);
  }
  inside[1] = 0;
}

export class RandomNumbers {
  private readonly state = new Int32Array(4);

  /** The same seed gives the same numbers, in pieces of any length. Without a seed they differ each time. */
  constructor(seed?: number | null) {
    if (widths[0] === 0) fillTables();
    const bits = new Int32Array(new Float64Array([seed ?? Math.random()]).buffer);
    this.state.set([bits[0]!, bits[1]!, 0x9e3779b9, 1]);
    for (let i = 0; i < 16; i++) this.next();
  }

  /** 32 random bits, signed. */
  private next(): number {
    const {state} = this;
    const [a, b, c, counter] = [state[0]!, state[1]!, state[2]!, state[3]!];
    const value = (a + b + counter) | 0;
    state[0] = b ^ (b >>> 9);
    state[1] = (c + (c << 3)) | 0;
    state[2] = (((c << 21) | (c >>> 11)) + value) | 0;
    state[3] = (counter + 1) | 0;
    return value;
  }

  /** In (0, 1). */
  private unit(): number {
    return ((this.next() >>> 0) + 0.5) / 2 ** 32;
  }

  /** Uniformly distributed values in [low, high). */
  uniform(out: Float32Array, low: number, high: number): void {
    const {state} = this;
    // Separate statements: destructuring an array would make the whole loop slow.
    let a = state[0]!;
    let b = state[1]!;
    let c = state[2]!;
    let counter = state[3]!;
    const step = (high - low) / 2 ** 24;
    for (let i = 0; i < out.length; i++) {
      // `next`, inlined by hand: a call would take as long as the rest of the loop.
      const value = (a + b + counter) | 0;
      counter = (counter + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + value) | 0;
      out[i] = low + (value >>> 8) * step;
    }
    state.set([a, b, c, counter]);
  }

  /** Normally distributed values. Those further than `limit` standard deviations from the mean are drawn again. */
  normal(out: Float32Array, mean: number, stddev: number, limit = Infinity): void {
    const {state} = this;
    let a = state[0]!;
    let b = state[1]!;
    let c = state[2]!;
    let counter = state[3]!;
    for (let i = 0; i < out.length;) {
      const value = (a + b + counter) | 0;
      counter = (counter + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + value) | 0;
      const layer = value & (LAYERS - 1);
      const draw = value >> 8;
      let x = draw * widths[layer]!;
      if (Math.abs(draw) >= inside[layer]!) {
        state[0] = a;
        state[1] = b;
        state[2] = c;
        state[3] = counter;
        x = this.edge(layer, x);
        a = state[0]!;
        b = state[1]!;
        c = state[2]!;
        counter = state[3]!;
      }
      // NaN, which fails both comparisons, means that the draw was outside.
      if (x < limit && x > -limit) out[i++] = mean + stddev * x;
    }
    state.set([a, b, c, counter]);
  }

  /**
   * For the one draw in a hundred that may be outside: returns a value of the tail, x if it is under the curve, or NaN.
   */
  private edge(layer: number, x: number): number {
    if (layer > 0) {
      const [low, high] = [heights[layer]!, heights[layer - 1]!];
      return low + this.unit() * (high - low) < Math.exp(-0.5 * x * x) ? x : NaN;
    }
    let beyond: number;
    do beyond = -Math.log(this.unit()) / TAIL;
    while (-2 * Math.log(this.unit()) < beyond * beyond);
    return x < 0 ? -(TAIL + beyond) : TAIL + beyond;
  }
}
