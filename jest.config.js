/** Unit tests: no network, no real weights, no browser. */
export default {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  testPathIgnorePatterns: [
    '/node_modules/',
    '<rootDir>/test/real/',
    '<rootDir>/test/browser/',
    '<rootDir>/test/package/',
  ],
  moduleNameMapper: {
    '^#backends/(.*)$': '<rootDir>/src/backends/$1/index.ts',
    '^#platform/(.*)$': '<rootDir>/src/platform/node/$1.ts',
    '^webgpu$': '<rootDir>/test/support/dawn.ts',
    '^tfjs-gemma3/worker$': '<rootDir>/src/worker/index.ts',
    '^tfjs-gemma3/worker/host$': '<rootDir>/src/worker/host.ts',
    '^tfjs-gemma3$': '<rootDir>/src/index.ts',
  },
  transform: {
    '^.+\\.ts$': ['@swc/jest', {jsc: {target: 'es2022', parser: {syntax: 'typescript'}}, module: {type: 'commonjs'}}],
  },
  setupFiles: ['<rootDir>/test/support/seed.ts', '<rootDir>/test/support/quiet.ts'],
  setupFilesAfterEnv: ['<rootDir>/test/support/matchers.ts'],
  maxWorkers: 2,
  testTimeout: 240_000,
};
