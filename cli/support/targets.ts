/** Places that commands write to. */
import {readdir, stat} from 'node:fs/promises';

/** @throws Error if there is a file, or a folder with files. */
export async function refuseExisting(out: string): Promise<void> {
  const found = await stat(out).catch(() => undefined);
  // Remains of a killed conversion do not belong to the user; the next conversion removes them.
  const isEmpty = async () => (await readdir(out)).every(name => name.startsWith('.saving-'));
  if (!found || (found.isDirectory() && (await isEmpty()))) return;
  throw new Error(
    `Expected an empty folder, or one that does not exist. Received: "${out}". Use --force, or another name.`,
  );
}

/** @throws Error if there is a file or a folder. */
export async function refuseExistingFile(out: string): Promise<void> {
  if (!(await stat(out).catch(() => undefined))) return;
  throw new Error(`Expected the name of a new file. Received: "${out}", which exists. Use --force, or another name.`);
}
