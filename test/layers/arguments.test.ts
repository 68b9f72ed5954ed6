/** Argument tables: names, defaults and checks from one list. */
import {type ArgumentTable, completeArguments, namesOf, pick} from '../../src/layers/arguments';

interface PoolingArgs {
  size: number;
  strides?: number;
  padded?: boolean;
  cap?: number | null;
}

const ARGUMENTS = {
  size: ['size'],
  strides: ['size', 2],
  padded: ['flag', false],
  cap: ['positiveOrNull', null],
} satisfies ArgumentTable<PoolingArgs>;

const complete = (args: object) => completeArguments('Pooling', args, ARGUMENTS);

test('fills in the defaults of arguments that are null or left out', () => {
  expect(complete({size: 3})).toEqual({size: 3, strides: 2, padded: false, cap: null});
  expect(complete({size: 3, strides: null, padded: true, cap: 5})).toEqual({size: 3, strides: 2, padded: true, cap: 5});
});

test('keeps the order of the table and ignores other arguments', () => {
  expect(Object.keys(complete({cap: 1, other: 2, size: 3}))).toEqual(['size', 'strides', 'padded', 'cap']);
  expect(namesOf(ARGUMENTS)).toEqual(['size', 'strides', 'padded', 'cap']);
});

test.each([
  [{}, 'Pooling expected `size` to be a positive integer. Received: size=undefined.'],
  [{size: 0}, 'Pooling expected `size` to be a positive integer. Received: size=0.'],
  [{size: 1, padded: 1}, 'Pooling expected `padded` to be true or false. Received: padded=1.'],
  [{size: 1, cap: -1}, 'Pooling expected `cap` to be null or above 0. Received: cap=-1.'],
])('refuses %p', (args, message) => {
  expect(() => complete(args)).toThrow(message);
});

test('picks the arguments that another class takes', () => {
  expect(pick(complete({size: 3, cap: 1}), ['size', 'cap'])).toEqual({size: 3, cap: 1});
});

test('is checked against the interface by the compiler', () => {
  // @ts-expect-error: an argument that can be left out needs a default
  const noDefault: ArgumentTable<PoolingArgs> = {...ARGUMENTS, strides: ['size']};
  // @ts-expect-error: a flag is not a size
  const wrongKind: ArgumentTable<PoolingArgs> = {...ARGUMENTS, padded: ['size', 1]};
  // @ts-expect-error: `size` is missing
  const incomplete: ArgumentTable<Pick<PoolingArgs, 'size' | 'strides'>> = {strides: ['size', 2]};
  expect([noDefault, wrongKind, incomplete]).toHaveLength(3);
});
