/** Paths and contents of the files that tests read. No test builds paths from its own folder, so tests can move. */
import {readdirSync, readFileSync} from 'node:fs';
import {join, resolve} from 'node:path';

export const ROOT = resolve(__dirname, '../..');

/** The preset inside the package: a small model that was trained to answer a few questions about text and pictures. */
export const TINY_PRESET = join(ROOT, 'presets/gemma3_tiny');

/** The path of a file or folder in test/fixtures. */
export const fixture = (path: string): string => join(ROOT, 'test/fixtures', path);

/** Names of the files and folders in a folder of test/fixtures. */
export const fixtureNames = (folder: string): string[] => readdirSync(fixture(folder));

export const fixtureBytes = (path: string): Uint8Array => new Uint8Array(readFileSync(fixture(path)));

export const fixtureJson = <T>(path: string): T => JSON.parse(readFileSync(fixture(path), 'utf8')) as T;

/** The path of a photo for gemma3_tiny, by name without extension. */
export const tinyPicture = (name: string): string => fixture(`tiny_preset/pictures/${name}.png`);
