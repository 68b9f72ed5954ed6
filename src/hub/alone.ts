/** Changes to a model in the cache, which are not allowed while it is downloaded. */
import * as store from '#platform/store';
import {ValueError} from '../base/errors';

/**
 * Runs `change` while no download of the model can start.
 *
 * @param lock path of the lock that downloads of the model take.
 * @throws ValueError if a download is running, in this process or another one. Then `change` does not run.
 */
export async function whileNotDownloaded<T>(name: string, lock: string, change: () => Promise<T>): Promise<T> {
  const busy = new AbortController();
  const refuse = () =>
    busy.abort(
      new ValueError(
        `Expected a model that is not being downloaded. Received: ${name}, whose download is running. Wait until it is ` +
          'done, or stop it, and try again.',
      ),
    );
  const held = await store.lock(lock, busy.signal, refuse);
  try {
    return await change();
  } finally {
    await held.release();
  }
}
