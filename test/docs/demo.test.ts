/** The page in `demo` can be copied: its package.json names the versions that are tested here. */
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import {ROOT} from '../support/fixtures';

interface Manifest {
  version: string;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
}
const read = (path: string) => JSON.parse(readFileSync(join(ROOT, path), 'utf8')) as Manifest;

test('its dependencies are the versions that are installed', () => {
  const {dependencies, devDependencies} = read('demo/package.json');
  const {version} = read('package.json');
  for (const [name, wanted] of Object.entries({...dependencies, ...devDependencies})) {
    const found = name === 'tfjs-gemma3' ? version : read(`node_modules/${name}/package.json`).version;
    expect([name, wanted]).toEqual([name, found]);
  }
});
