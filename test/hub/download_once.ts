/** Downloads a model in its own process, for tests that kill it: `node download_once.cjs NAME`. */
import {hubOf} from '../../src/hub/all';
import {downloadFiles} from '../../src/hub/download';
import {Requests} from '../../src/hub/requests';

const name = process.argv[2]!;
const requests = new Requests(undefined, undefined);
void hubOf(name)!
  .find(name, {offline: false, requests})
  .then(model => {
    process.stdout.write('found\n');
    const settings = {requests, signal: undefined, onProgress: undefined, chunk: 64 * 1024, connections: 4};
    return model.files === null ? 0 : downloadFiles(model, model.files, true, settings);
  })
  .then(received => void process.stdout.write(`${received}\n`));
