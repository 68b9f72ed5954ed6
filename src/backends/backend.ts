/**
 * What a backend of this package provides. A new one is a folder next to this file and one line in `all.ts`; importing the
 * folder registers the backend with tfjs, or its kernels with one of tfjs' own backends.
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
  /** Makes it the current backend of tfjs. With options it is recreated if it exists, and its tensors are lost. */
  use(options: object): Promise<void>;
  /** How it computes here, for people: instruction set, threads. */
  details(): Promise<string>;
}
