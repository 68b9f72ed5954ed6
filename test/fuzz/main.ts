/**
 * The program of `scripts/fuzz.mjs`, which bundles it: the parsers outside of jest, whose modules cost several times as
 * much. Arguments: mutations (empty: each parser's budget), parser (empty: all), seed, file for the number of each
 * mutation, and "json" for a report in JSON.
 */
import {openSync, writeSync} from 'node:fs';
import {Allocations} from './guard';
import {parsers} from './parsers';
import {fuzz} from './run';

/** Mutations in CI of a parser that names no number. */
const BUDGET = 1000;

async function main([mutations, name, seed, progress, as]: readonly string[]): Promise<void> {
  const chosen = parsers.filter(parser => name === '' || parser.name === name);
  if (chosen.length === 0) {
    throw new Error(`Expected one of ${parsers.map(parser => parser.name).join(', ')}. Received: ${name}.`);
  }
  const place = openSync(progress!, 'w');
  const allocations = new Allocations();
  console.warn = () => {};
  for (const parser of chosen) {
    const started = Date.now();
    allocations.install();
    const {read, refused, faults} = await fuzz(parser, {
      seed: Number(seed),
      first: Number(process.env.FUZZ_FIRST ?? 0),
      end: mutations ? Number(mutations) : (parser.budget ?? BUDGET),
      allocations,
      onMutation: i => writeSync(place, `${parser.name} ${i}\n`.padEnd(48), 0),
    });
    allocations.uninstall();
    const seconds = (Date.now() - started) / 1000;
    if (faults.length > 0) process.exitCode = 1;
    if (as === 'json') {
      console.log(JSON.stringify({parser: parser.name, read, refused, faults}));
      continue;
    }
    console.log(
      `${parser.name}: ${read} read, ${refused} refused, ${faults.length} kinds of faults, ${seconds.toFixed(1)} s`,
    );
    for (const fault of faults) console.log(fault);
  }
}

void main(process.argv.slice(2));
