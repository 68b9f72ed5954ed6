/** Chooses among kernels for the same products by trials at start. */
import {INT8_WORDS} from '../assembly/numbers';
import {type Kernels} from './bank';
import {fastestInt8Kernel} from './int8_kernel';
import {fastestTiles, type IntegerTiles} from './integer_tiles';
import {type SimdEngineOptions} from './options';
import {wideIsFaster} from './wide';

/** The kernels of an engine: see `SimdEngineOptions`. */
export interface Choices extends IntegerTiles {
  readonly wide: boolean;
  readonly int8Kernel: number;
  /** Until large products have shown what is faster: see `ReadingTrial`. */
  readonly readAhead: boolean;
}

/** Runs the trials in parallel: they mostly wait for the compiler. Takes about 40 ms. */
export async function chooseKernels(
  kernels: Kernels,
  level: 'relaxed' | 'plain',
  canBeWide: boolean,
  options: SimdEngineOptions,
): Promise<Choices> {
  kernels.start(0, 1);
  const relaxed = level === 'relaxed';
  const wide = Promise.resolve(options.wide ?? (canBeWide && wideIsFaster(kernels)));
  const int8Kernel = options.int8Kernel ?? (relaxed ? fastestInt8Kernel(kernels) : INT8_WORDS);
  const {byteTiles, wordTiles, readAhead = true} = options;
  const chosen = byteTiles !== undefined && wordTiles !== undefined;
  const tiles = relaxed && !chosen ? fastestTiles(kernels, wide) : {byteTiles: false, wordTiles: false};
  const [isWide, kernel, fastest] = await Promise.all([wide, int8Kernel, tiles]);
  return {
    wide: isWide,
    int8Kernel: kernel,
    byteTiles: byteTiles ?? fastest.byteTiles,
    wordTiles: wordTiles ?? fastest.wordTiles,
    readAhead,
  };
}
