/**
 * Loading a preset from a server: requests, seconds, and memory in addition to the weights. The server is a separate
 * process that waits before each answer; it answers range requests or not, over HTTP/1.1 or HTTP/2. Prints Markdown.
 *
 *     npm run build && node dist/cli.js convert models/gemma3_270m /tmp/int8 --to tfjs --dtype int8
 *     node bench/http.mjs /tmp/int8 [--delay 50] [--rounds 3] [--before ../older/dist/node/index.js]
 *
 * Node's `fetch` speaks HTTP/1.1. The rows of HTTP/2 use a `fetch` on `node:http2`, over one connection without TLS.
 */
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {createReadStream, statSync} from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import {join, resolve} from 'node:path';
import {Readable} from 'node:stream';
import {fileURLToPath, pathToFileURL} from 'node:url';
import {parseArgs} from 'node:util';

const SCRIPT = fileURLToPath(import.meta.url);
const {values, positionals} = parseArgs({
  allowPositionals: true,
  options: {
    delay: {type: 'string', default: '50'},
    rounds: {type: 'string', default: '3'},
    before: {type: 'string'},
    part: {type: 'string'},
  },
});
const megabytes = bytes => Math.round(bytes / 1e6);
const median = numbers => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** A server of the files below `root`. Tells the parent its port, and the number of requests when asked. */
async function serve(root, protocol, ranges, delay) {
  let requests = 0;
  const answer = async (request, response) => {
    requests++;
    await new Promise(done => setTimeout(done, delay));
    const file = join(root, decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    const found = statSync(file, {throwIfNoEntry: false});
    if (!found?.isFile()) return response.writeHead(404).end();
    const asked = ranges ? /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') : null;
    const [start, end] = asked ? [Number(asked[1]), Math.min(Number(asked[2]), found.size - 1)] : [0, found.size - 1];
    response.writeHead(asked ? 206 : 200, {
      'content-length': end - start + 1,
      ...(asked && {'content-range': `bytes ${start}-${end}/${found.size}`}),
    });
    const content = createReadStream(file, {start, end, highWaterMark: 2 ** 18});
    response.on('close', () => content.destroy());
    content.pipe(response);
  };
  const server = protocol === 'HTTP/2' ? http2.createServer(answer) : http.createServer(answer);
  server.listen(0, '127.0.0.1', () => process.send({port: server.address().port}));
  process.on('message', () => process.send({requests}));
}

/** `fetch` over one connection of HTTP/2. */
function fetchOverHttp2(origin) {
  const session = http2.connect(origin);
  return (address, {headers, signal} = {}) =>
    new Promise((done, fail) => {
      const {pathname, search} = new URL(address);
      const stream = session.request({':path': pathname + search, ...Object.fromEntries(headers ?? [])}, {signal});
      stream.on('error', fail);
      stream.on('response', all => {
        const shown = Object.entries(all).filter(([name]) => !name.startsWith(':'));
        const body = Readable.toWeb(stream, {strategy: {highWaterMark: 2}});
        done(new Response(body, {status: all[':status'], headers: shown}));
      });
    });
}

/** Loads the preset and tells the parent how long it took, and how much memory. */
async function load(module, address, protocol) {
  const {Gemma3CausalLM, useBackend} = await import(pathToFileURL(resolve(module)).href);
  await useBackend('simd', {threads: 2});
  const fetch = protocol === 'HTTP/2' ? fetchOverHttp2(address) : undefined;
  const before = process.memoryUsage.rss();
  const start = performance.now();
  const lm = await Gemma3CausalLM.fromPreset(address, fetch && {fetch});
  const seconds = (performance.now() - start) / 1000;
  const weights = lm.backbone.weights.reduce((sum, {byteLength = 0}) => sum + byteLength, 0);
  const memory = process.resourceUsage().maxRSS * 1024 - before - weights;
  process.send({seconds, memory, weights});
}

function start(...args) {
  return spawn(process.execPath, [SCRIPT, '--part', ...args.map(String)], {stdio: ['ignore', 2, 2, 'ipc']});
}

async function measure(module, folder, protocol, ranges, delay) {
  const server = start('serve', folder, protocol, ranges ? 1 : 0, delay);
  const [{port}] = await once(server, 'message');
  const client = start('load', module, `http://127.0.0.1:${port}`, protocol);
  const [result] = await Promise.race([
    once(client, 'message'),
    once(client, 'exit').then(([code]) => Promise.reject(new Error(`Loading ended with code ${code}.`))),
  ]);
  server.send('requests');
  const [{requests}] = await once(server, 'message');
  for (const child of [client, server]) child.kill();
  return {...result, requests};
}

async function compare(folder) {
  const modules = [['', fileURLToPath(new URL('../dist/node/index.js', import.meta.url))]];
  if (values.before) modules.unshift(['before, ', values.before]);
  const rows = new Map();
  const delays = values.delay.split(',').map(Number);
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const delay of delays) {
      for (const protocol of ['HTTP/1.1', 'HTTP/2']) {
        for (const ranges of [true, false]) {
          // Alternately, so that changes on the machine affect all of them equally.
          for (const [name, module] of modules) {
            const row = `${name}${protocol}, ${ranges ? 'ranges' : 'no ranges'} | ${delay}`;
            const result = await measure(module, folder, protocol, ranges, delay);
            rows.set(row, [...(rows.get(row) ?? []), result]);
            console.error(row, JSON.stringify(result));
          }
        }
      }
    }
  }
  console.log('| Server | delay, ms | requests | seconds | range | memory above the weights, MB |');
  console.log('| --- | ---: | ---: | ---: | ---: | ---: |');
  for (const [row, results] of rows) {
    const seconds = results.map(result => result.seconds);
    const range = `${Math.min(...seconds).toFixed(2)} to ${Math.max(...seconds).toFixed(2)}`;
    const memory = megabytes(median(results.map(result => result.memory)));
    const requests = median(results.map(result => result.requests));
    console.log(`| ${row} | ${requests} | ${median(seconds).toFixed(2)} | ${range} | ${memory} |`);
  }
}

if (values.part === 'serve')
  await serve(positionals[0], positionals[1], positionals[2] === '1', Number(positionals[3]));
else if (values.part === 'load') await load(...positionals);
else await compare(resolve(positionals[0]));
