/**
 * Constants of eˣ: n = round(x · log₂ e), r = x − n · ln 2, and eˣ = 2ⁿ · (1 + r + r² · p(r)), with Cephes' polynomial.
 *
 * They are in variables: V8 creates a constant vector again at every use, but keeps a variable in a register.
 */
export let log2e: f32 = 0;
/** Added to a number below 2²², rounds it: the lowest bits are then the nearest integer. */
export let rounding: f32 = 0;
/** −ln 2 in two parts. The first has few bits, so that its product with an integer is exact. */
export let ln2High: f32 = 0;
export let ln2Low: f32 = 0;
export let p0: f32 = 0;
export let p1: f32 = 0;
export let p2: f32 = 0;
export let p3: f32 = 0;
export let p4: f32 = 0;
export let half: f32 = 0;
export let one: f32 = 0;

export function startExponential(): void {
  log2e = 1.44269504088896341;
  rounding = 12582912;
  ln2High = -0.693359375;
  ln2Low = 2.1219444e-4;
  p0 = 1.98756915e-4;
  p1 = 1.3981999507e-3;
  p2 = 8.3334519073e-3;
  p3 = 4.1665795894e-2;
  p4 = 1.6666665459e-1;
  half = 0.5;
  one = 1;
}
