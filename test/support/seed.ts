/**
 * Runs before each test file: values that are random without a seed, such as new weights, are the same in each run.
 * Another value of TEST_SEED tries other numbers.
 */
import alea from 'seedrandom/lib/alea.js';

Math.random = alea(process.env.TEST_SEED ?? '1');
