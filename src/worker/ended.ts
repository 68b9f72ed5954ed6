/** The error of all calls that a Worker can no longer answer. */

/** Why a Worker no longer answers. */
export type EndReason = 'terminated' | 'failed' | 'lost';

/**
 * The Worker has ended: pending calls reject with this error, and so does every later call. Its models are gone, so
 * start another Worker and load them again.
 */
export class WorkerEndedError extends Error {
  override name = 'WorkerEndedError';

  constructor(
    /**
     * "terminated": `terminate` was called; "failed": its script could not be loaded or threw; "lost": the browser or
     * the process ended it, as it does when memory runs out.
     */
    readonly reason: EndReason,
    detail: string,
    options?: ErrorOptions,
  ) {
    super(`Expected a Worker that runs. Received: ${detail}. Start another one, and load the model again.`, options);
  }
}
