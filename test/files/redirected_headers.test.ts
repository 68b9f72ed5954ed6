/** Headers of a user: they may hold credentials, so no other server gets them, and no error shows them. */
import {createServer, type IncomingMessage, type Server} from 'node:http';
import {type AddressInfo} from 'node:net';
import {HttpPreset} from '../../src/files/http';
import {httpAddress, parseAddress} from '../../src/files/http_address';

const SECRETS = {authorization: 'Bearer secret', 'x-api-key': 'secret'};
const CONTENT = new Uint8Array(300_000).map((_, i) => i * 7);

interface Asked {
  readonly host: 'home' | 'other';
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
}

let servers: Server[] = [];
let asked: Asked[] = [];
let home = '';

async function listen(host: Asked['host'], to: (path: string) => string | undefined): Promise<string> {
  const server = createServer((request, response) => {
    asked.push({host, path: request.url!, headers: request.headers});
    const location = to(request.url!);
    if (location !== undefined) return response.writeHead(302, {location}).end();
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    if (first === undefined) return response.writeHead(200).end(CONTENT);
    const end = Math.min(Number(last) + 1, CONTENT.length);
    const range = `bytes ${first}-${end - 1}/${CONTENT.length}`;
    return response.writeHead(206, {'content-range': range}).end(CONTENT.subarray(Number(first), end));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

beforeEach(async () => {
  [servers, asked] = [[], []];
  const other = await listen('other', () => undefined);
  home = await listen('home', path => {
    if (path.includes('loop')) return path;
    if (path.includes('file')) return 'file:///etc/hostname';
    if (path.includes('here')) return '/moved';
    return path.includes('moved') ? undefined : `${other}/elsewhere`;
  });
});
afterEach(async () => {
  for (const server of servers) {
    server.closeAllConnections();
    await new Promise(resolve => server.close(resolve));
  }
});

async function read(path: string): Promise<Uint8Array> {
  const file = await new HttpPreset(`${home}/a`, {headers: SECRETS}).open(path);
  const bytes = new Uint8Array(file.size);
  await file.readInto(0, bytes);
  await file.close();
  return bytes;
}

const has = ({headers}: Asked) => [headers.authorization, headers['x-api-key']];
const ALL = Object.values(SECRETS);

test('stay with their server when it redirects to another one', async () => {
  expect(Buffer.compare(await read('away.bin'), CONTENT)).toBe(0);
  expect(asked.filter(({host}) => host === 'home').map(has)).toEqual(expect.arrayContaining([ALL]));
  const others = asked.filter(({host}) => host === 'other');
  expect(others.length).toBeGreaterThan(1);
  for (const one of others) expect([has(one), one.headers.range]).toEqual([[undefined, undefined], expect.any(String)]);
});

test('go along with redirects on their own server', async () => {
  expect(Buffer.compare(await read('here.bin'), CONTENT)).toBe(0);
  expect(asked.map(({host}) => host)).not.toContain('other');
  for (const one of asked) expect(has(one)).toEqual(ALL);
});

test('redirects without end, and to other kinds of addresses, are refused', async () => {
  await expect(read('loop')).rejects.toThrow('more than 10 redirects');
  await expect(read('file')).rejects.toThrow('Expected a redirect to a safe address');
});

test('an address with a password is refused without showing it', () => {
  const address = httpAddress('https://user:secret@example.org/x')!;
  expect(() => parseAddress(address)).toThrow(/a password in `headers`.* one at example\.org/);
  expect(() => parseAddress(address)).not.toThrow(/secret|hunter2/);
  expect(() => new HttpPreset('http://x', {headers: {'x-key': 'hunter2\nx'}})).not.toThrow(/secret|hunter2/);
});
