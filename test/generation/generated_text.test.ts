/** Stop strings in text that arrives in pieces. */
import * as fc from 'fast-check';
import {GeneratedText} from '../../src/generation/generated_text';

/** Token i is the i-th piece; a null is a special token. */
function text(pieces: (string | null)[], stopStrings: string[]): {parts: string[]; taken: number; ended: boolean} {
  const decoder = () => ({push: (id: number) => pieces[id]!, flush: () => ''});
  const row = new GeneratedText({tokenizer: {decoder}, isSpecial: id => pieces[id] === null}, stopStrings);
  const parts: string[] = [];
  let taken = 0;
  while (taken < pieces.length && !row.ended) parts.push(row.push(taken++));
  const {ended} = row;
  parts.push(row.flush());
  return {parts, taken, ended};
}

test.each([
  [['one', ' two', ' three'], [' three'], 'one two', true],
  // A stop string that spans several tokens, with text after it.
  [['one\n', '\ntwo', ' three'], ['\n\n'], 'one', true],
  [['a', 'b', 'c', 'd'], ['bcd'], 'a', true],
  // An incomplete stop string is text, even at the end.
  [['a', 'b', 'c', 'x'], ['bcd'], 'abcx', false],
  [['a', 'b', 'c'], ['bcd'], 'abc', false],
  // A false start that overlaps the stop string.
  [['a', 'a', 'a', 'b'], ['aab'], 'a', true],
  // The first complete stop string ends the text.
  [['abcd'], ['cd', 'b'], 'a', true],
  [['abcd'], ['bc', 'abc'], '', true],
  [['one', null, ' two'], ['e t'], 'on', true],
  [['one'], [], 'one', false],
])('%j with %j gives %j', (pieces, stops, expected, ended) => {
  const result = text(pieces, stops);
  expect(result.parts.join('')).toBe(expected);
  expect(result.ended).toBe(ended);
});

test('generates no token after the stop string', () => {
  expect(text(['a', 'b', 'c', 'd'], ['b']).taken).toBe(2);
});

test('never emits text that a stop string removes, however the text is split into pieces', () => {
  const letters = fc.constantFrom('a', 'b', 'c');
  const words = fc.string({unit: letters, minLength: 1, maxLength: 4});
  fc.assert(
    fc.property(fc.array(words, {maxLength: 12}), fc.array(words, {minLength: 1, maxLength: 3}), (pieces, stops) => {
      const whole = pieces.join('');
      // Letter by letter: the text so far ends with a stop string.
      let end = 0;
      while (end <= whole.length && !stops.some(stop => whole.slice(0, end).endsWith(stop))) end += 1;
      const found = stops.filter(stop => whole.slice(0, end).endsWith(stop)).map(stop => end - stop.length);
      const expected = found.length ? whole.slice(0, Math.min(...found)) : whole;
      const {parts} = text(pieces, stops);
      expect(parts.join('')).toBe(expected);
    }),
    {numRuns: 500},
  );
});

test('returns the text of a prompt unchanged, including stop strings', () => {
  const decoder = () => ({push: (id: number) => 'xyz'[id]!, flush: () => ''});
  const row = new GeneratedText({tokenizer: {decoder}, isSpecial: () => false}, ['xy', 'zx']);
  expect(row.prompt([0, 1, 2])).toBe('xyz');
  expect(row.push(0)).toBe('');
  expect(row.push(2)).toBe('x');
  expect(row.flush()).toBe('z');
});
