/** Values and lists of problems in error messages. */
import {describeNotA, describeValue, didYouMean, listed} from '../../src/base/errors';
import {MemoryFile} from '../../src/files/memory';

test.each([
  ['text', '"text"'],
  [null, 'null'],
  [undefined, 'undefined'],
  [3, '3'],
  [[1, 'a'], '[1,"a"]'],
  [{a: 1}, '{"a":1}'],
  [Object.create(null), '{}'],
  [new MemoryFile('file'), 'MemoryFile'],
  [MemoryFile, 'the function MemoryFile'],
  [() => 1, 'the function without a name'],
])('describeValue(%p) is %s', (value, text) => {
  expect(describeValue(value)).toBe(text);
});

test('an object that contains itself has a description as well', () => {
  const circular: Record<string, unknown> = {name: 'loop'};
  circular.self = circular;
  expect(describeValue(circular)).toBe('an object with name, self');
});

test('listed shows eight problems and counts the rest', () => {
  const problems = Array.from({length: 10}, (_, i) => `p${i}`);
  expect(listed([])).toBe('');
  expect(listed(problems.slice(0, 2))).toBe('p0; p1');
  expect(listed(problems.slice(0, 8))).toBe('p0; p1; p2; p3; p4; p5; p6; p7');
  expect(listed(problems)).toBe('p0; p1; p2; p3; p4; p5; p6; p7; and 2 more');
});

test('an instance of another copy of the package is named as such', () => {
  // esbuild renames a class that refers to itself; another copy has a class of the same name.
  const copy = () => {
    class _Model {
      static className = 'Model';
    }
    return _Model;
  };
  const [Model, Other] = [copy(), copy()];
  expect(describeValue(new Other())).toBe('Model');
  expect(describeNotA(Model, new Other())).toMatch(/^a Model of another copy of tfjs-gemma3\. Load the package in one/);
  expect(describeNotA(Model, new MemoryFile('file'))).toBe('MemoryFile');
  expect(describeNotA(Model, 'text')).toBe('"text"');
});

test.each([
  ['hidden_dim', '"hiddenDim"'],
  ['hiddenDims', '"hiddenDim"'],
  ['slidingWindow', '"slidingWindowSize"'],
  ['dropuot', '"dropout"'],
  ['seed', undefined],
  ['x', undefined],
])('didYouMean(%s) finds %s', (name, similar) => {
  const known = ['hiddenDim', 'slidingWindowSize', 'dropout', 'dtype', 'name'];
  expect(didYouMean([name], known)).toBe(similar ? ` Did you mean ${similar}?` : '');
});
