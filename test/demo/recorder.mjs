/** A proxy that records every host that a browser contacts, including its Workers, and reaches only this machine. */
import {createServer, request as ask} from 'node:http';

const isHere = host => host === '127.0.0.1' || host === 'localhost';

/** → {address, hosts, isDown, close()}. While `isDown`, there is no network. */
export async function startRecorder() {
  const recorder = {hosts: new Set(), isDown: false};
  const server = createServer((request, response) => {
    const {host, hostname, port, pathname, search} = new URL(request.url);
    if (recorder.isDown) return request.socket.destroy();
    recorder.hosts.add(host);
    if (!isHere(hostname)) return response.writeHead(502).end();
    const options = {host: hostname, port, path: pathname + search, method: request.method, headers: request.headers};
    const onward = ask(options, answer => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
      // A cut connection must look cut.
      answer.on('error', () => response.destroy());
      answer.on('aborted', () => response.destroy());
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  });
  server.on('connect', (request, socket) => {
    recorder.hosts.add(request.url.replace(/:443$/, ''));
    socket.on('error', () => {});
    socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  recorder.address = `http://127.0.0.1:${server.address().port}`;
  recorder.close = () => server.close() && server.closeAllConnections();
  return recorder;
}
