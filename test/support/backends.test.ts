/** The list of tested backends is complete. */
import {backendNames} from '../../src';
import {BACKENDS, DEVICES} from './backends';

test('every backend of the package is tested', () => {
  expect(['auto', ...[...BACKENDS, ...DEVICES].map(({name}) => name)].sort()).toEqual([...backendNames].sort());
});
