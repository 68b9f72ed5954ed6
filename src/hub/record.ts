/** Records of what was downloaded: a small JSON file with the files of a model, their sizes and checksums. */
import * as store from '#platform/store';
import {isObject} from '../base/json';
import {type Checksum, digestFor, type FileProblem, type RemoteFile, type Verified} from './hub';
import {isSafePath} from '../base/safe_path';

/** What is known about a downloaded file. */
export interface FileRecord {
  readonly size: number;
  readonly checksum?: Checksum;
  readonly version?: string;
}

export interface ModelRecord {
  /** The name of the model, if its folder does not tell. */
  readonly name?: string;
  /** Whether the record has all files of the model. */
  readonly complete: boolean;
  readonly files: Readonly<Record<string, FileRecord>>;
}

const EMPTY: ModelRecord = {complete: false, files: {}};

function isFileRecord(value: unknown): value is FileRecord {
  return isObject(value) && typeof value.size === 'number';
}

/** The record at a path. A missing or damaged one is empty. */
export async function readRecord(path: string): Promise<ModelRecord> {
  const text = await store.readText(path);
  if (text === undefined) return EMPTY;
  try {
    const {name, complete, files} = JSON.parse(text) as Partial<ModelRecord>;
    if (!isObject(files)) return EMPTY;
    const known = Object.entries(files).filter(([name, file]) => isSafePath(name) && isFileRecord(file));
    return {
      ...(typeof name === 'string' && {name}),
      complete: complete === true,
      files: Object.fromEntries(known) as Record<string, FileRecord>,
    };
  } catch {
    return EMPTY;
  }
}

export async function writeRecord(path: string, record: ModelRecord): Promise<void> {
  await store.writeText(path, JSON.stringify(record, null, 1));
}

/** Adds a file to a record. */
export async function addToRecord(path: string, file: RemoteFile, model?: string): Promise<void> {
  const {path: name, size, checksum, version} = file;
  const record = await readRecord(path);
  const known: FileRecord = {size: size!, ...(checksum && {checksum}), ...(version !== undefined && {version})};
  await writeRecord(path, {...(model && {name: model}), ...record, files: {...record.files, [name]: known}});
}

/** Whether a file on this computer matches its record. Undefined: the record has no checksum. */
export async function compare(
  path: string,
  {size, checksum}: FileRecord,
  signal?: AbortSignal,
): Promise<string | undefined | null> {
  const found = await store.fileSize(path);
  if (found === undefined) return 'is missing';
  if (found !== size) return `has ${found} bytes instead of ${size}`;
  if (size === 0) return undefined;
  if (!checksum) return null;
  const {algorithm, prefix} = digestFor(checksum, size);
  const digest = await store.digestOf(path, algorithm, prefix, signal);
  return digest === checksum.value ? undefined : `has ${algorithm} ${digest} instead of ${checksum.value}`;
}

/** Compares files with their records. `remove` is called for each damaged file. */
export async function compareAll(
  files: readonly (readonly [path: string, place: string, record: FileRecord | undefined])[],
  remove: ((path: string, place: string) => Promise<void>) | undefined,
  signal?: AbortSignal,
): Promise<Verified> {
  const damaged: FileProblem[] = [];
  const unknown: string[] = [];
  for (const [path, place, record] of files) {
    signal?.throwIfAborted();
    const problem = record ? await compare(place, record, signal) : null;
    if (problem === undefined) continue;
    if (problem === null) {
      unknown.push(path);
      continue;
    }
    damaged.push({path, problem});
    await remove?.(path, place);
  }
  return {files: files.length - unknown.length, damaged, unknown};
}

/** All files below a folder, by path. */
export async function filesBelow(folder: string, prefix = ''): Promise<string[]> {
  const found: string[] = [];
  for (const {name, isFolder} of await store.entries(folder)) {
    if (isFolder) found.push(...(await filesBelow(`${folder}/${name}`, `${prefix}${name}/`)));
    else found.push(`${prefix}${name}`);
  }
  return found;
}

/** Bytes of all files below a folder. */
export async function bytesBelow(folder: string): Promise<number> {
  let bytes = 0;
  for (const path of await filesBelow(folder)) bytes += (await store.fileSize(`${folder}/${path}`)) ?? 0;
  return bytes;
}
