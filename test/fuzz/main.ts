/**
 * The program of `scripts/fuzz.mjs`, which bundles it: the parsers outside of jest, whose modules cost several times as
 * much. Arguments: mutations, parser (all without one), seed, file for the number of each mutation.
 */
import {openSync, writeSync} from 'node:fs';
import {Allocations} from './guard';
import {parsers} from './parsers';
import {fuzz} from './run';

async function main([mutations, name, seed, progress]: readonly string[]): Promise<void> {
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
      end: Number(mutations),
      allocations,
      onMutation: i => writeSync(place, `${parser.name} ${i}\n`.padEnd(48), 0),
    });
    allocations.uninstall();
    const seconds = Math.round((Date.now() - started) / 1000);
    console.log(`${parser.name}: ${read} read, ${refused} refused, ${faults.length} kinds of faults, ${seconds} s`);
    for (const fault of faults) console.log(fault);
    if (faults.length > 0) process.exitCode = 1;
  }
}

void main(process.argv.slice(2));
