/**
 * Names of unfinished files and folders. A name tells which process is writing, so that the next save can remove the
 * remains of a killed process, but never files that a running one still needs.
 */
import {createHash, randomUUID} from 'node:crypto';
import {readFileSync, readlinkSync} from 'node:fs';
import {lstat, open, readdir, rm} from 'node:fs/promises';
import {hostname} from 'node:os';
import {join} from 'node:path';

const NAME = /^\.saving-([\da-f]{8})-(\d+)-(\d+)-[\da-f]{8}$/;

/**
 * Whether a process on another host still runs cannot be checked. Its files are removed after a day without changes.
 */
const IDLE_MS = 24 * 3600 * 1000;

const attempt = <T>(run: () => T, otherwise: T): T => {
  try {
    return run();
  } catch {
    return otherwise;
  }
};

let hostId: string | undefined;

/**
 * Identifies this host and its process ids: containers can share a name, but number their processes separately. Deno
 * asks for permission to read the name, so that is left to programs that write.
 */
const thisHost = () =>
  (hostId ??= createHash('sha256')
    .update(hostname() + attempt(() => readlinkSync('/proc/self/ns/pid'), ''))
    .digest('hex')
    .slice(0, 8));

/** State and start time of a process. Undefined where the system does not list processes in /proc. */
function statusOf(pid: number): {state: string; started: string} | undefined {
  const text = attempt(() => readFileSync(`/proc/${pid}/stat`, 'utf8'), undefined);
  // The second field is the program's name, in parentheses, which may itself contain spaces and parentheses.
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields && {state: fields[0]!, started: fields[19]!};
}

/** Whether the process that started at this time ("0" if unknown) still runs, and not another one with its id. */
function runs(pid: number, started: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const status = statusOf(pid);
  if (!status) return true;
  const zombie = status.state === 'Z' || status.state === 'X';
  return !zombie && (started === '0' || started === status.started);
}

/** A new name for something that this process is writing. It begins with `prefix`. */
export function stagingName(prefix = ''): string {
  const started = statusOf(process.pid)?.started ?? '0';
  return `${prefix}.saving-${thisHost()}-${process.pid}-${started}-${randomUUID().slice(0, 8)}`;
}

async function lastChange(path: string): Promise<number> {
  const found = await lstat(path);
  const inside = found.isDirectory() ? await readdir(path) : [];
  const times = inside.map(name => lastChange(join(path, name)));
  return Math.max(found.mtimeMs, ...(await Promise.all(times)));
}

/** Removes the files that dead processes left in a folder under names that begin with `prefix`. Never fails. */
export async function removeAbandoned(folder: string, prefix = ''): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const [, writer, pid, started] = (name.startsWith(prefix) && NAME.exec(name.slice(prefix.length))) || [];
    if (writer === undefined) continue;
    const path = join(folder, name);
    const changed = writer === thisHost() ? undefined : await lastChange(path).catch(() => Date.now());
    const abandoned = changed === undefined ? !runs(Number(pid), started!) : Date.now() - changed > IDLE_MS;
    // Another save may be removing it too.
    if (abandoned) await rm(path, {recursive: true, force: true}).catch(() => {});
  }
}

/** Flushes the entries of a folder to disk, if the system supports it. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close();
}
