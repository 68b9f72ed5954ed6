/** Damages files at random and checks how a parser handles them. */
import {type Allocations, isOurs} from './guard';
import {randomNumbers} from './mutations';
import {type Parser} from './parsers';

const MOST_REPORTED = 5;

export interface FuzzOptions {
  /** Mutations are the same for the same seed. */
  readonly seed: number;
  /** The number of the first mutation. */
  readonly first: number;
  /** The number of the one after the last. */
  readonly end: number;
  readonly allocations: Allocations;
  /** Called before each mutation. */
  readonly onMutation?: (number: number) => void;
}

export interface FuzzResult {
  /** How many files were read, and refused with an error of this package. */
  readonly read: number;
  readonly refused: number;
  /** Other outcomes, one of each kind, with how to repeat it. */
  readonly faults: string[];
}

export async function fuzz(
  {seeds, damage, read, limit = size => 24 * size + 2 ** 22}: Parser,
  {seed, first, end, allocations, onMutation}: FuzzOptions,
): Promise<FuzzResult> {
  const outcomes = {read: 0, refused: 0};
  const faults = new Map<string, string>();
  const sizes = seeds.map(({folder}) => [...(folder?.values() ?? [])].reduce((sum, {length}) => sum + length, 0));
  for (let i = first; i < end; i++) {
    const random = randomNumbers(seed * 1_000_003 + i);
    const chosen = random(seeds.length);
    const file = seeds[chosen]!;
    const bytes = damage(file.bytes, random);
    onMutation?.(i);
    allocations.start(limit(bytes.length + sizes[chosen]!));
    try {
      await read(file, bytes);
      outcomes.read++;
    } catch (error) {
      outcomes.refused++;
      if (isOurs(error)) continue;
      const {stack = String(error)} = error as Error;
      const [message, ...lines] = stack.split('\n');
      const place = lines.find(line => /\/(src|converters)\//.test(line)) ?? lines[0] ?? '';
      const kind = `${message!.replace(/\d+/g, 'N').slice(0, 200)}${place}`;
      if (!faults.has(kind)) faults.set(kind, `FUZZ_SEED=${seed} FUZZ_FIRST=${i}, of ${file.name}: ${stack}`);
      if (faults.size >= MOST_REPORTED) break;
    } finally {
      allocations.start(Infinity);
    }
  }
  return {...outcomes, faults: [...faults.values()]};
}
