/** Random damage, the same for the same seed. */
import {uniform} from '../support/random';

export type Random = (limit: number) => number;

/** Numbers from 0 to `limit` − 1. */
export function randomNumbers(seed: number): Random {
  const next = uniform(seed);
  return limit => Math.floor(next() * limit);
}

/** Numbers that parsers trip over. */
const NUMBERS = [0n, 1n, 0x7fn, 0xffffn, 0x7fffffffn, 0xffffffffn, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];

/** Most damage hits the beginning or the end, where formats keep what is parsed. */
const EDGE = 4096;

export function damagedBytes(original: Uint8Array, random: Random): Uint8Array {
  let bytes = new Uint8Array(original);
  const place = (width: number): number => {
    const room = Math.max(1, bytes.length - width + 1);
    const edge = Math.min(room, EDGE);
    const where = random(8);
    return where < 4 ? random(edge) : where < 6 ? room - edge + random(edge) : random(room);
  };
  for (let count = 1 + random(4); count > 0; count--) {
    const kind = random(8);
    if (bytes.length < 16) return bytes;
    const view = new DataView(bytes.buffer);
    if (kind === 0) bytes[place(1)] = random(256);
    else if (kind === 1) bytes[place(1)]! ^= 1 << random(8);
    else if (kind === 2) view.setBigUint64(place(8), NUMBERS[random(NUMBERS.length)]!, true);
    else if (kind === 3) view.setUint32(place(4), Number(NUMBERS[random(NUMBERS.length)]! & 0xffffffffn), true);
    else if (kind === 4) view.setUint32(place(4), random(bytes.length), true);
    else if (kind === 5) bytes.copyWithin(place(1), place(1), place(1));
    else if (kind === 6) view.setUint16(place(2), random(65536), true);
    else bytes = bytes.slice(0, place(1));
  }
  return bytes;
}

/** Unexpected values in JSON. */
const VALUES: readonly unknown[] = [
  null, true, false, 0, -1, 1, 0.5, 7, 1e9, 2 ** 31, 2 ** 53, 1e308, -1e308, '', 'x', '../../secret.h5', '/etc/passwd',
  'C:\\secret', '__proto__', 'Infinity', [], [[]], {}, {class_name: 'X', config: {}}, {config: null}, 'a'.repeat(300),
]; // prettier-ignore

type Holder = Record<string, unknown> | unknown[];

/** Every object and array in a value. */
function holders(value: unknown): Holder[] {
  if (typeof value !== 'object' || value === null) return [];
  // Long lists, such as those of a vocabulary, count like short ones.
  const items = Object.values(value).slice(0, 200);
  return [value as Holder, ...items.flatMap(holders)];
}

/** Damages JSON as text, or replaces, removes, moves and adds values. */
export function damagedJson(original: Uint8Array, random: Random): Uint8Array {
  if (random(4) === 0) return damagedBytes(original, random);
  const root = JSON.parse(new TextDecoder().decode(original)) as Holder;
  const all = holders(root);
  for (let count = 1 + random(3); count > 0; count--) {
    const holder = all[random(all.length)] as Record<string, unknown>;
    const keys = Object.keys(holder);
    const key = keys[random(keys.length)];
    const kind = random(6);
    if (key === undefined || kind === 0) {
      if (Array.isArray(holder)) holder.push(VALUES[random(VALUES.length)]);
      else holder[`new ${random(9)}`] = VALUES[random(VALUES.length)];
    } else if (kind === 1) delete holder[key];
    else if (kind === 2) holder[key] = (all[random(all.length)] as Record<string, unknown>)[key] ?? null;
    else holder[key] = VALUES[random(VALUES.length)];
  }
  try {
    return new TextEncoder().encode(JSON.stringify(root));
  } catch {
    // A value was moved into itself.
    return damagedBytes(original, random);
  }
}
