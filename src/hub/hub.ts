/** Contracts of hubs: places on the network that have models by name. */
import {type DigestAlgorithm} from '../platform/contract';
import {type Requests} from './requests';

/** A checksum that the bytes of a file must have. */
export interface Checksum {
  /** "git" is git's SHA-1 over "blob", the size and the bytes. */
  readonly kind: 'md5' | 'sha256' | 'git';
  /** In hexadecimal. */
  readonly value: string;
}

/** A file of a model on a hub. */
export interface RemoteFile {
  /** Its path in the model's folder, with slashes. */
  readonly path: string;
  /** Where to request it. Credentials are sent there, and not where a redirect leads to another host. */
  readonly url: string;
  /** Size in bytes; undefined if only the server tells it, when the file is requested. */
  readonly size: number | undefined;
  /** Undefined if only the server tells it, or if there is none. */
  readonly checksum: Checksum | undefined;
  /** The server's name for this version of the file, if there is no checksum. */
  readonly version?: string;
}

/** The place in the cache for one version of a model. */
export interface Shelf {
  /** The folder that holds its files and is opened as a preset. */
  readonly folder: string;
  /** Path of the lock for all changes. */
  readonly lock: string;
  /** Path for the bytes of a file while it is downloaded. */
  partial(file: RemoteFile): string;
  /** Whether all files of the model are there, as far as that is known without the hub. */
  isComplete(): Promise<boolean>;
  /** Whether a file is there and complete. */
  has(file: RemoteFile): Promise<boolean>;
  /** Called before the first byte arrives: registers the model, so that unfinished files can be listed and removed. */
  begin?(): Promise<void>;
  /** Where a verified file is moved to. */
  target(file: RemoteFile): string;
  /**
   * Called when a file is at its target: makes it part of the model.
   *
   * @param file with the size and the checksum from the server.
   */
  add(file: RemoteFile): Promise<void>;
  /**
   * Called when files have arrived, with all files that should be there.
   *
   * @param complete whether these are all files of the model.
   */
  finish(files: readonly RemoteFile[], complete: boolean): Promise<void>;
}

/** One version of a model, found on a hub or in its cache. */
export interface HubModel {
  /** Its full name, with version. */
  readonly name: string;
  readonly shelf: Shelf;
  /** The folder of the preset in the model, or a file that is the model; empty: the model's own folder. */
  readonly root: string;
  /** The files to download. Null: the hub was not asked, and the model is what its folder holds. */
  readonly files: readonly RemoteFile[] | null;
  /** Headers with the credentials for the hub. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The error for an answer that refuses a file, such as HTTP 403. Says what to do. */
  refused?(file: RemoteFile, response: Response): Error;
}

/** How to query a hub. */
export interface HubRequest {
  /** Whether only the cache may be used. */
  readonly offline: boolean;
  readonly requests: Requests;
  /** Headers of the user, for the hub itself. They may hold credentials, and replace those of the environment. */
  readonly headers?: Headers;
}

/** Headers for a hub: those with the credentials of the environment, and those of the user; undefined without any. */
export function headersFor(
  credentials: Readonly<Record<string, string>> | undefined,
  {headers}: HubRequest,
): Record<string, string> | undefined {
  const all = new Headers(credentials);
  headers?.forEach((value, name) => all.set(name, value));
  const entries = Object.fromEntries(all);
  return Object.keys(entries).length > 0 ? entries : undefined;
}

/** Whether headers have credentials. */
export const haveCredentials = (headers: Readonly<Record<string, string>> | undefined): boolean =>
  headers?.authorization !== undefined;

/** A model in the cache, as `cache list` shows it. */
export interface CachedModel {
  /** A name that `fromPreset` and `gemma3 download` accept. */
  readonly name: string;
  /** The folder of its files. */
  readonly folder: string;
  /** Bytes on the disk, those of unfinished files included. */
  readonly bytes: number;
  /** Whether all files are there, as far as that is known without the hub. */
  readonly complete: boolean;
}

/** A file that `cache verify` found damaged or could not judge. */
export interface FileProblem {
  readonly path: string;
  readonly problem: string;
}

/** A hub. To add one, write a file with it and add a line to `all.ts`. */
export interface Hub {
  /** The schemes of its names, such as `hf`. */
  readonly schemes: readonly string[];
  /** A name as an example. */
  readonly example: string;
  /**
   * Finds a model by its full name.
   *
   * @throws ValueError if the name is malformed, or there is no such model.
   */
  find(name: string, request: HubRequest): Promise<HubModel>;
  /** The models in its cache. */
  list(): Promise<CachedModel[]>;
  /** Removes a model from its cache. Paths that nothing else uses go with it. */
  remove(model: CachedModel): Promise<void>;
  /**
   * Compares the files of a model with their checksums.
   *
   * @param repair whether to remove damaged files, so that the next download fetches them again.
   * @returns how many files were compared, what is wrong, and files without a checksum.
   */
  verify(model: CachedModel, repair: boolean, signal?: AbortSignal): Promise<Verified>;
}

export interface Verified {
  readonly files: number;
  readonly damaged: readonly FileProblem[];
  /** Files without a known checksum. */
  readonly unknown: readonly string[];
}

/** The algorithm of a checksum, and what is hashed before the bytes of a file. */
export function digestFor({kind}: Checksum, size: number): {algorithm: DigestAlgorithm; prefix: Uint8Array} {
  if (kind !== 'git') return {algorithm: kind, prefix: new Uint8Array(0)};
  return {algorithm: 'sha1', prefix: new TextEncoder().encode(`blob ${size}\0`)};
}
