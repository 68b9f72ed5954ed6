/** Models of all types and with all normalizations, compared with the `sentencepiece` library. */
import {gunzipSync} from 'node:zlib';
import {ValueError} from '../../src/base/errors';
import {CharacterMap} from '../../src/tokenizers/character_map';
import {SentencePiece} from '../../src/tokenizers/sentence_piece';
import {fixtureJson} from '../support/fixtures';
import {type Expected} from '../support/tokenizer_fixtures';

const {models} = fixtureJson<{models: (Pick<Expected, 'texts' | 'sequences'> & {name: string; proto: string})[]}>(
  'tokenizer/types.json',
);

describe.each(models)('$name', ({proto, texts, sequences}) => {
  const model = new SentencePiece(new Uint8Array(gunzipSync(Buffer.from(proto, 'base64'))));

  test('encodes and decodes texts', () => {
    const found = texts.map(([text]) => {
      const ids = model.encode(text);
      return [text, ids, model.decode(ids)];
    });
    expect(found).toEqual(texts);
  });

  test('decodes sequences, also piece by piece', () => {
    expect(sequences.map(([ids]) => [ids, model.decode(ids)])).toEqual(sequences);
    for (const [ids, text] of sequences) {
      const stream = model.decoder();
      expect(ids.map(id => stream.push(id)).join('') + stream.flush()).toBe(text);
    }
  });
});

test('rules of normalization that are damaged are refused', () => {
  const rules = (...bytes: number[]) => new CharacterMap(Uint8Array.from(bytes));
  for (const bytes of [
    [],
    [4, 0, 0, 0],
    [4, 0, 0, 0, 1, 2, 3, 4],
    [4, 0, 0, 0, 1, 2, 3, 4, 65],
    [3, 0, 0, 0, 1, 2, 3, 0],
  ]) {
    expect(() => rules(...bytes)).toThrow(ValueError);
    expect(() => rules(...bytes)).toThrow(`Received: ${bytes.length} bytes with a trie of`);
  }
  // A trie of noise leads anywhere, but ends.
  const noise = new CharacterMap(
    Uint8Array.from({length: 4 + 400 + 10}, (_, i) => (i < 4 ? [144, 1, 0, 0][i]! : i === 413 ? 0 : i * 7919)),
  );
  for (let i = 0; i < 256; i++) noise.longestAt(Uint8Array.of(i, i, 65, 66), 0);
});
