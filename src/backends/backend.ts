/** The interface of this package's backends. */
import {ValueError} from '../base/errors';

/** A backend cannot be used here, as a try has shown. The message gives the reason and says what to do. */
export class UnavailableError extends ValueError {}

/**
 * To add a backend, create a folder next to this file and add a line to `all.ts`. Importing the folder registers the
 * backend with tfjs, or its kernels with one of tfjs' own backends.
 */
export interface Backend {
  /** The name that `useBackend` takes. */
  readonly name: string;
  /** Its name in tfjs. Defaults to `name`. */
  readonly tfjsName?: string;
  /** Names of the options that `use` takes. */
  readonly options: readonly string[];
  /** The reason why the backend cannot be used here; undefined if it can. */
  unavailable(): Promise<string | undefined>;
  /** False if "auto" should prefer a later backend although this one can be used. */
  preferred(): boolean | Promise<boolean>;
  /**
   * Makes it tfjs' current backend. If options are given, or an existing one can no longer compute, it is recreated.
   * Warns if it is limited because the platform refuses something.
   *
   * @throws UnavailableError if it cannot be used here.
   */
  use(options: object): Promise<void>;
  /**
   * A description for users of how it computes here: instruction set, threads.
   *
   * @throws UnavailableError if it cannot be used here.
   */
  details(): Promise<string>;
}
