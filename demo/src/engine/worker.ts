/** Workers: a permanent one with the models, and temporary ones. */
import {ModelWorker} from 'tfjs-gemma3/worker';

export const startWorker = (): ModelWorker =>
  new ModelWorker(new Worker(new URL('./model.worker.ts', import.meta.url), {type: 'module'}));

/** Uses a separate Worker, so that downloads and descriptions continue while the model computes. */
export async function withWorker<T>(use: (worker: ModelWorker) => Promise<T>): Promise<T> {
  const worker = startWorker();
  try {
    return await use(worker);
  } finally {
    worker.terminate();
  }
}
