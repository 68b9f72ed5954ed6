/** Both implementations of `#platform`, for Node and for browsers, export the same names. */
import {readdirSync, readFileSync} from 'node:fs';
import {join} from 'node:path';

const PLATFORM = join(__dirname, '../../src/platform');
/** Files that are an interface of the contract. Others are parts of these. */
const subjects = readdirSync(join(PLATFORM, 'browser')).filter(file =>
  readFileSync(join(PLATFORM, 'browser', file), 'utf8').includes(' satisfies '),
);

test('there are subjects', () => {
  expect(subjects).toContain('store.ts');
});

const names = async (side: string, file: string) =>
  Object.keys((await import(join(PLATFORM, side, file))) as object).sort();

test.each(subjects)('%s', async file => {
  expect(await names('browser', file)).toEqual(await names('node', file));
});
