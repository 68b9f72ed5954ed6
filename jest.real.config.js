import unit from './jest.config.js';

/** Tests on the real Gemma 3 270M. Run `npm run fetch:270m` first. */
export default {
  ...unit,
  testMatch: ['<rootDir>/test/real/**/*.test.ts'],
  testPathIgnorePatterns: ['/node_modules/'],
  maxWorkers: 1,
  testTimeout: 1_800_000,
};
