/**
 * The interface of this package's backends. To add one, create a folder next to this file and add a line to `all.ts`.
 * Importing the folder registers the backend with tfjs, or its kernels with one of tfjs' own backends.
 */
export interface Backend {
  /** The name that `useBackend` takes. */
  readonly name: string;
  /** Names of the options that `use` takes. */
  readonly options: readonly string[];
  /** The reason why the backend cannot be used here; undefined if it can. */
  unavailable(): Promise<string | undefined>;
  /** False if "auto" should prefer a later backend although this one can be used. */
  preferred(): boolean;
  /**
   * Makes it tfjs' current backend. If options are given, or an existing one can no longer compute, it is recreated.
   */
  use(options: object): Promise<void>;
  /** A description for users of how it computes here: instruction set, threads. */
  details(): Promise<string>;
}
