/** Differences of Deno from Node, as far as Node can imitate them. */
import {startThread} from '../../src/platform/node/threads';

jest.mock('node:os', () => ({
  ...jest.requireActual<object>('node:os'),
  hostname: () => {
    throw new Error('Requires sys access to "hostname"');
  },
}));

test('the package loads where the name of the host may not be read', async () => {
  await expect(import('../../src')).resolves.toHaveProperty('Gemma3CausalLM');
});

test('a thread ends although its port cannot be closed', async () => {
  const source = `(data, {ready, end}) => {
    require('node:worker_threads').parentPort.close = undefined;
    ready();
    end();
  }`;
  const {ready, ended} = startThread(source, {});
  await ready;
  await expect(ended).resolves.toBeUndefined();
});
