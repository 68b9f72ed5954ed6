/** A static file server with range requests. Accepts connections from this machine only. */
import {createReadStream} from 'node:fs';
import {stat} from 'node:fs/promises';
import {createServer} from 'node:http';
import {extname, join, normalize} from 'node:path';

const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};

/** Headers that let a page share memory between threads. */
const ISOLATION = {'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp'};

/**
 * Serves the files below `root`, and `pages` by path: their text, or {text, headers}. Pages under /isolated/ may share
 * memory. → {address, close()}
 */
export async function serve(root, pages = {}) {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    if (path in pages) {
      const {text = pages[path], headers: own} = pages[path];
      const headers = {...(path.startsWith('/isolated/') && ISOLATION), ...own};
      response.writeHead(200, {'content-type': TYPES[extname(path)] ?? 'text/html', ...headers});
      response.end(text);
      return;
    }
    const file = join(root, path);
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const [start, end] = range ? [Number(range[1]), Math.min(Number(range[2]), found.size - 1)] : [0, found.size - 1];
    response.writeHead(range ? 206 : 200, {
      'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
      'content-length': end - start + 1,
      ...(range && {'content-range': `bytes ${start}-${end}/${found.size}`}),
    });
    if (request.method === 'HEAD' || found.size === 0) response.end();
    else createReadStream(file, {start, end}).pipe(response);
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise(resolve => server.close(resolve)),
  };
}

/** A port that is free now. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));
  const {port} = server.address();
  await new Promise(resolve => server.close(resolve));
  return port;
}
