import {existsSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import {Gemma3Tokenizer} from '../../src/models/gemma3/gemma3_tokenizer';
import {digest, type Expected, readExpected} from '../support/tokenizer_fixtures';
import {REAL_PRESET} from './real_preset';

const FILE = join(REAL_PRESET, 'assets/tokenizer/vocabulary.spm');

function readVocabulary(): Uint8Array {
  if (!existsSync(FILE)) {
    throw new Error(
      `Expected Gemma 3 270M's vocabulary at ${FILE}. Received: no such file. ` +
        `Make it with \`npm run fetch:270m\`, or set GEMMA3_270M to the folder of the preset.`,
    );
  }
  return new Uint8Array(readFileSync(FILE));
}

describe("Gemma 3 270M's vocabulary", () => {
  const expected = readExpected<Expected>('real_270m.json');
  let tokenizer: Gemma3Tokenizer;
  beforeAll(() => {
    tokenizer = new Gemma3Tokenizer({proto: readVocabulary()});
  });

  test('has the tokens where Gemma has them', () => {
    expect(tokenizer.vocabularySize).toBe(262_144);
    expect(
      Object.fromEntries(
        ['<pad>', '<eos>', '<bos>', '<unk>', '<mask>', '<start_of_turn>', '<end_of_turn>', '\n', '\u2581\u2581'].map(
          token => [token, tokenizer.tokenToId(token)],
        ),
      ),
    ).toEqual({
      '<pad>': 0,
      '<eos>': 1,
      '<bos>': 2,
      '<unk>': 3,
      '<mask>': 4,
      '<start_of_turn>': 105,
      '<end_of_turn>': 106,
      '\n': 107,
      '\u2581\u2581': 138,
    });
    expect(tokenizer.tokenToId('<0x00>')).toBe(238);
    expect(tokenizer.tokenToId('<0xFF>')).toBe(493);
    expect([tokenizer.imagePlaceholderId, tokenizer.startOfImageTokenId, tokenizer.endOfImageTokenId]).toEqual([
      219, 255_999, 256_000,
    ]);
  });

  test('every token is found by its id and its id by the token', () => {
    const vocabulary = tokenizer.getVocabulary();
    expect(vocabulary.filter((token, id) => tokenizer.tokenToId(token) !== id)).toEqual([]);
  });

  test('texts give the ids and the text of the sentencepiece library', () => {
    expect(expected.texts.length).toBeGreaterThan(500);
    for (const [text, ids, decoded] of expected.texts) {
      expect([text, tokenizer.tokenize(text)]).toEqual([text, ids]);
      expect([text, tokenizer.detokenize(ids)]).toEqual([text, decoded]);
    }
  });

  test('sequences give its text, at once and one by one', () => {
    for (const [ids, decoded] of expected.sequences) {
      expect([ids, tokenizer.detokenize(ids)]).toEqual([ids, decoded]);
      const stream = tokenizer.decoder();
      expect([ids, ids.map(id => stream.push(id)).join('') + stream.flush()]).toEqual([ids, decoded]);
    }
  });

  test('100 kB at once', () => {
    for (const [unit, count, length, sha256] of expected.long) {
      const ids = tokenizer.tokenize(unit.repeat(count));
      expect([unit, ids.length, digest(ids)]).toEqual([unit, length, sha256]);
    }
  });
});
