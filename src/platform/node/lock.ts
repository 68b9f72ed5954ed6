/**
 * Locks between processes: a file that names its holder. The holder touches it every few seconds, so that the lock of a
 * killed process, or of a machine that lost power, is recognized and taken over.
 */
import {randomUUID} from 'node:crypto';
import {mkdir, open, readFile, rm, stat, utimes} from 'node:fs/promises';
import {hostname} from 'node:os';
import {dirname} from 'node:path';
import {type Lock} from '../contract';
import {codeOf, unless, writing} from './disk';

/** Milliseconds between two signs of life. */
const BEAT = 5_000;

/** Milliseconds without a sign of life after which a holder counts as dead. */
const DEAD = 60_000;

/** Milliseconds between two checks of a lock that another process holds. */
const LOOK = 100;

/** Milliseconds after which a process that was breaking a lock counts as dead. Breaking takes less than one. */
const BREAKING = 10_000;

interface Holder {
  readonly token: string;
  readonly pid: number;
  readonly host: string;
}

const parse = (text: string): Partial<Holder> => {
  try {
    return JSON.parse(text) as Partial<Holder>;
  } catch {
    // It was killed before it had written its name.
    return {};
  }
};

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === 'EPERM';
  }
}

const ageOf = async (path: string): Promise<number | undefined> => {
  const found = await stat(path).catch(unless('ENOENT'));
  return found && Date.now() - found.mtimeMs;
};

/** Creates a file that does not exist yet. Returns whether it did. */
async function create(path: string, text: string): Promise<boolean> {
  const handle = await open(path, 'wx').catch(unless('EEXIST', 'EPERM', 'EBUSY'));
  if (!handle) {
    // On Windows, EPERM may mean that the file is being removed. If nothing can be written, the file does not exist.
    if (await stat(path).catch(unless('ENOENT'))) return false;
    await (await open(path, 'wx')).close();
    await rm(path, {force: true});
    return false;
  }
  try {
    await handle.writeFile(text);
  } finally {
    await handle.close();
  }
  return true;
}

/** Whether the holder of a lock has died. Undefined if there is no lock. */
async function isDead(path: string): Promise<{text: string; dead: boolean} | undefined> {
  const text = await readFile(path, 'utf8').catch(unless('ENOENT'));
  const age = await ageOf(path);
  if (text === undefined || age === undefined) return undefined;
  const {pid, host} = parse(text);
  // A name that is still missing may be about to be written.
  if (pid === undefined || host !== hostname()) return {text, dead: age > DEAD};
  return {text, dead: age > DEAD || (pid !== process.pid && !isRunning(pid))};
}

/**
 * Removes the lock of a dead process. Only one process at a time does so, and only for the lock that it has checked.
 */
async function breakLock(path: string, text: string): Promise<void> {
  const breaking = `${path}.breaking`;
  if (!(await create(breaking, ''))) {
    const age = await ageOf(breaking);
    if (age !== undefined && age > BREAKING) await rm(breaking, {force: true});
    return;
  }
  try {
    const now = await isDead(path);
    if (now?.dead && now.text === text) await rm(path, {force: true});
  } finally {
    await rm(breaking, {force: true});
  }
}

const sleep = (milliseconds: number) => new Promise<void>(resolve => setTimeout(resolve, milliseconds));

export async function lock(path: string, signal: AbortSignal | undefined, waiting: () => void): Promise<Lock> {
  const holder: Holder = {token: randomUUID(), pid: process.pid, host: hostname()};
  const text = JSON.stringify(holder);
  await writing('file', path, async () => {
    let told = false;
    const take = async () => {
      await mkdir(dirname(path), {recursive: true});
      // The process that removed what the lock was for may have removed the empty folder.
      return (await create(path, text).catch(unless('ENOENT'))) ?? false;
    };
    while (!(await take())) {
      signal?.throwIfAborted();
      const found = await isDead(path);
      if (found?.dead) {
        await breakLock(path, found.text);
        continue;
      }
      if (found && !told) {
        told = true;
        waiting();
      }
      await sleep(LOOK);
    }
  });
  const lost = new AbortController();
  const isMine = async () => {
    const now = await readFile(path, 'utf8').catch(unless('ENOENT'));
    return now !== undefined && parse(now).token === holder.token;
  };
  const beat = async () => {
    const now = new Date();
    if (await isMine()) await utimes(path, now, now);
    else lost.abort(new Error(`Expected to hold the lock ${path}. Received: another process has taken it. Try again.`));
  };
  const timer = setInterval(() => void beat().catch(() => {}), BEAT);
  timer.unref();
  return {
    lost: lost.signal,
    release: async () => {
      clearInterval(timer);
      if (await isMine()) await rm(path, {force: true});
    },
  };
}
