/** The list of tested backends is complete. */
import {backendNames} from '../../src';
import {BACKENDS, DEVICES, NATIVE} from './backends';

test('every backend of the package is tested', () => {
  expect(['auto', ...[...BACKENDS, ...NATIVE, ...DEVICES].map(({name}) => name)].sort()).toEqual(
    [...backendNames].sort(),
  );
});
