/** Merging kernel families. */
import {mergeKernels} from '../../src/backends/kernel_map';

const kernel = () => [];

test('families are merged into one map', () => {
  expect(Object.keys(mergeKernels([{A: kernel, B: kernel}, {C: kernel}]))).toEqual(['A', 'B', 'C']);
});

test('two kernels with the same name are refused', () => {
  expect(() => mergeKernels([{A: kernel, B: kernel}, {B: kernel}])).toThrow('two kernels have the name "B"');
});
