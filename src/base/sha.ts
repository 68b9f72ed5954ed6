/** SHA-1 and SHA-256 of bytes that arrive in pieces; browsers offer them only for whole arrays. */

/** Rounds of both algorithms work on blocks of 64 bytes, as 16 words. */
const BLOCK = 64;

const rotateRight = (x: number, by: number) => (x >>> by) | (x << (32 - by));

/** The first 32 bits of the fractional part of a positive number. */
const fraction = (x: number) => Math.floor((x - Math.floor(x)) * 2 ** 32);

/** Constants of SHA-256: from the cube roots and the square roots of primes. */
function constants(): {rounds: Uint32Array; start: Uint32Array} {
  const primes: number[] = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every(prime => n % prime !== 0)) primes.push(n);
  return {
    rounds: Uint32Array.from(primes, prime => fraction(Math.cbrt(prime))),
    start: Uint32Array.from(primes.slice(0, 8), prime => fraction(Math.sqrt(prime))),
  };
}

const {rounds: ROUNDS, start: START_256} = constants();
const START_1 = Uint32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0);

function compress256(state: Uint32Array, words: Uint32Array): void {
  for (let i = 16; i < 64; i++) {
    const [x, y] = [words[i - 15]!, words[i - 2]!];
    const small = rotateRight(x, 7) ^ rotateRight(x, 18) ^ (x >>> 3);
    const large = rotateRight(y, 17) ^ rotateRight(y, 19) ^ (y >>> 10);
    words[i] = words[i - 16]! + small + words[i - 7]! + large;
  }
  let [a, b, c, d, e, f, g, h] = state as unknown as [number, number, number, number, number, number, number, number];
  for (let i = 0; i < 64; i++) {
    const choice = (e & f) ^ (~e & g);
    const first =
      (h + (rotateRight(e, 6) ^ rotateRight(e, 11) ^ rotateRight(e, 25)) + choice + ROUNDS[i]! + words[i]!) | 0;
    const second = ((rotateRight(a, 2) ^ rotateRight(a, 13) ^ rotateRight(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + second) | 0;
  }
  [a, b, c, d, e, f, g, h].forEach((value, i) => (state[i]! += value));
}

function compress1(state: Uint32Array, words: Uint32Array): void {
  for (let i = 16; i < 80; i++)
    words[i] = rotateRight(words[i - 3]! ^ words[i - 8]! ^ words[i - 14]! ^ words[i - 16]!, 31);
  let [a, b, c, d, e] = state as unknown as [number, number, number, number, number];
  for (let i = 0; i < 80; i++) {
    const [mixed, constant] =
      i < 20
        ? [(b & c) | (~b & d), 0x5a827999]
        : i < 40
          ? [b ^ c ^ d, 0x6ed9eba1]
          : i < 60
            ? [(b & c) | (b & d) | (c & d), 0x8f1bbcdc]
            : [b ^ c ^ d, 0xca62c1d6];
    const next = (rotateRight(a, 27) + mixed + e + constant + words[i]!) | 0;
    e = d;
    d = c;
    c = rotateRight(b, 2);
    b = a;
    a = next;
  }
  [a, b, c, d, e].forEach((value, i) => (state[i]! += value));
}

const ALGORITHMS = {
  sha1: {start: START_1, compress: compress1},
  sha256: {start: START_256, compress: compress256},
};

export class Sha {
  private readonly state: Uint32Array;
  private readonly compress: (state: Uint32Array, words: Uint32Array) => void;
  private readonly words = new Uint32Array(80);
  private readonly rest = new Uint8Array(BLOCK);
  private length = 0;

  constructor(algorithm: keyof typeof ALGORITHMS) {
    this.state = Uint32Array.from(ALGORITHMS[algorithm].start);
    this.compress = ALGORITHMS[algorithm].compress;
  }

  update(bytes: Uint8Array): this {
    for (let at = 0; at < bytes.length;) {
      const filled = this.length % BLOCK;
      const part = bytes.subarray(at, at + BLOCK - filled);
      if (part.length === BLOCK) this.block(part);
      else {
        this.rest.set(part, filled);
        if (filled + part.length === BLOCK) this.block(this.rest);
      }
      this.length += part.length;
      at += part.length;
    }
    return this;
  }

  /** The digest in hexadecimal. Must be called once, at the end. */
  digest(): string {
    const bits = this.length * 8;
    const padding = new Uint8Array(BLOCK * (this.length % BLOCK < 56 ? 1 : 2) - (this.length % BLOCK));
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(padding.length - 4, bits >>> 0);
    this.update(padding);
    return Array.from(this.state, word => word.toString(16).padStart(8, '0')).join('');
  }

  private block(bytes: Uint8Array): void {
    const {words} = this;
    for (let i = 0; i < 16; i++) {
      words[i] = (bytes[4 * i]! << 24) | (bytes[4 * i + 1]! << 16) | (bytes[4 * i + 2]! << 8) | bytes[4 * i + 3]!;
    }
    this.compress(this.state, words);
  }
}
