/** Which requests go through a proxy. */
import {proxyFetch, proxyOf} from '../../src/platform/node/proxy';

const before = process.env;
beforeEach(() => {
  process.env = {
    HTTPS_PROXY: 'http://proxy:1',
    http_proxy: 'http://proxy:2',
    NO_PROXY: 'a.test, .b.test,c.test:8443,*.d.test',
  };
});
afterEach(() => {
  process.env = before;
});

test.each([
  ['https://hub.test/x', 'http://proxy:1'],
  ['http://hub.test/x', 'http://proxy:2'],
  ['https://a.test/', undefined],
  ['https://x.a.test/', undefined],
  ['https://xa.test/', 'http://proxy:1'],
  ['https://x.b.test/', undefined],
  ['https://c.test/', 'http://proxy:1'],
  ['https://c.test:8443/', undefined],
  ['https://x.d.test/', undefined],
])('%s: %s', (address, proxy) => {
  expect(proxyOf(address)).toBe(proxy);
});

test('"*" excepts everything, and without a proxy nothing changes', async () => {
  process.env.NO_PROXY = '*';
  expect(proxyOf('https://hub.test/')).toBeUndefined();
  process.env = {};
  expect(await proxyFetch()).toBeUndefined();
});

test('a proxy that cannot be used is an error', async () => {
  const through = await proxyFetch();
  await expect(through!('https://hub.test/x?secret=1')).rejects.toThrow(
    'Expected the package "undici" to reach hub.test through the proxy of HTTPS_PROXY. Received: ',
  );
});
