/** Both implementations of `#platform`, for Node and for browsers, export the same names. */
import {readdirSync} from 'node:fs';
import {join} from 'node:path';

const PLATFORM = join(__dirname, '../../src/platform');
const subjects = readdirSync(join(PLATFORM, 'browser'));

const names = async (side: string, file: string) =>
  Object.keys((await import(join(PLATFORM, side, file))) as object).sort();

test.each(subjects)('%s', async file => {
  expect(await names('browser', file)).toEqual(await names('node', file));
});
