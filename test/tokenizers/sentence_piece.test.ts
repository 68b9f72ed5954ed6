/** The tokenizer against the sentencepiece library, and properties of encoding and decoding. */
import fc from 'fast-check';
import {SentencePiece} from '../../src/tokenizers/sentence_piece';
import {digest, readExpected, readSmallVocabulary, type SmallExpected} from '../support/tokenizer_fixtures';

const expected = readExpected<SmallExpected>('small.json');
const vocabulary = readSmallVocabulary();
const small = new SentencePiece(vocabulary);
const pieces = Array.from({length: small.vocabularySize}, (_, id) => small.idToPiece(id));

/** As in UTF-8: lone surrogates become U+FFFD. */
function wellFormed(text: string): string {
  return new TextDecoder('utf-8', {ignoreBOM: true}).decode(new TextEncoder().encode(text));
}

/** Texts of strings that have a meaning in this vocabulary, mixed with characters of all kinds. */
const text = fc
  .array(
    fc.oneof(
      {weight: 3, arbitrary: fc.constantFrom(...pieces).map(piece => piece.replaceAll('\u2581', ' '))},
      fc.string({unit: 'grapheme', maxLength: 5}),
      fc.string({unit: 'binary', maxLength: 5}),
      fc.array(fc.integer({min: 0, max: 0xffff}), {maxLength: 4}).map(units => String.fromCharCode(...units)),
      fc.tuple(fc.constantFrom(' ', '\n', '\t', 'a', '<', '\u2581'), fc.nat(30)).map(([unit, n]) => unit.repeat(n)),
    ),
    {maxLength: 12},
  )
  .map(parts => parts.join(''));

const byteIds = Array.from({length: 256}, (_, byte) =>
  small.pieceToId(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`),
);

/** Ids, many of them of bytes that form no character. */
const sequence = fc.array(
  fc.oneof(
    fc.nat(small.vocabularySize - 1),
    fc.constantFrom(...byteIds),
    fc.constantFrom(...byteIds.slice(128)),
    fc.constantFrom(small.padId, small.bosId, small.eosId, small.unkId),
  ),
  {maxLength: 24},
);

describe('against the sentencepiece library', () => {
  test('a fixture of several hundred texts', () => {
    expect(expected.texts.length).toBeGreaterThan(500);
    for (const [input, ids, decoded] of expected.texts) {
      expect([input, small.encode(input)]).toEqual([input, ids]);
      expect([input, small.decode(ids)]).toEqual([input, decoded]);
    }
  });

  test('sequences of ids, with bytes that form no character', () => {
    expect(expected.sequences.length).toBeGreaterThan(200);
    for (const [ids, decoded] of expected.sequences) expect([ids, small.decode(ids)]).toEqual([ids, decoded]);
  });

  test.each(expected.long)('a long text of %j × %d', (unit, count, length, sha256) => {
    const ids = small.encode(unit.repeat(count));
    expect(ids).toHaveLength(length);
    expect(digest(ids)).toBe(sha256);
    expect(small.decode(ids)).toBe(unit.repeat(count));
  });

  describe.each(expected.variants)('a model with $name', ({proto, texts, sequences}) => {
    const model = new SentencePiece(new Uint8Array(Buffer.from(proto, 'base64')));

    test('texts', () => {
      for (const [input, ids, decoded] of texts) {
        expect([input, model.encode(input)]).toEqual([input, ids]);
        expect([input, model.decode(ids)]).toEqual([input, decoded]);
      }
    });

    test('sequences', () => {
      for (const [ids, decoded] of sequences) expect([ids, model.decode(ids)]).toEqual([ids, decoded]);
    });
  });
});

describe('encode', () => {
  test('control pieces never come from text', () => {
    for (const piece of ['<pad>', '<eos>', '<bos>', '<unk>']) {
      const ids = small.encode(`a${piece}b`);
      expect(ids).not.toContain(small.pieceToId(piece));
      expect(small.decode(ids)).toBe(`a${piece}b`);
    }
  });

  test('user-defined pieces match text as a whole, the longest first', () => {
    const ids = (...list: string[]) => list.map(piece => small.pieceToId(piece));
    expect(small.encode('<start_of_turn>')).toEqual(ids('<start_of_turn>'));
    expect(small.encode('\n'.repeat(13))).toEqual(ids('\n'.repeat(10), '\n\n\n'));
    expect(small.encode(' '.repeat(13))).toEqual(ids('\u2581'.repeat(11), '\u2581\u2581'));
    expect(small.encode('<td></td>')).toEqual(ids('<td>', '</td>'));
  });

  test('a byte piece written as text is text', () => {
    expect(small.encode('<0x0A>')).not.toContain(small.pieceToId('<0x0A>'));
  });

  test('U+2581 is a space', () => {
    expect(small.encode('the\u2581river')).toEqual(small.encode('the river'));
  });

  test.each(['\ud800', '\udc00', 'a\ud83db', '\ude00\ud83d', '<b>\ud800</b>'])(
    'a lone surrogate is U+FFFD: %j',
    input => {
      expect(small.encode(input)).toEqual(small.encode(input.replace(/[\ud800-\udfff]/g, '\ufffd')));
    },
  );

  test('characters without a piece become bytes', () => {
    expect(small.encode('\0')).toEqual([byteIds[0]]);
    expect(small.encode('𠀋')).toEqual([0xf0, 0xa0, 0x80, 0x8b].map(byte => byteIds[byte]));
  });

  test('refuses anything but a string', () => {
    expect(() => small.encode(undefined as unknown as string)).toThrow(
      'Expected the text to encode to be a string. Received: undefined.',
    );
  });

  test('property: decode restores the text', () => {
    fc.assert(
      fc.property(text, input => {
        expect(small.decode(small.encode(input))).toBe(wellFormed(input).replaceAll('\u2581', ' '));
      }),
      {numRuns: 500},
    );
  });

  test('property: equals merging pair by pair, as in the definition', () => {
    const isMerged = (id: number) => id > small.unkId && !byteIds.includes(id);
    // In this vocabulary as in Gemma's, user-defined pieces come first, then bytes, then merges from best to worst.
    const firstNormal = byteIds[255]! + 1;
    const userDefined = new Set(pieces.slice(4, byteIds[0]).filter(piece => small.hasPiece(piece)));
    const longest = Math.max(...[...userDefined].map(piece => piece.length));
    const slowly = (input: string): number[] => {
      const normalized = wellFormed(input).replaceAll(' ', '\u2581');
      const symbols: {piece: string; isWhole: boolean}[] = [];
      for (let at = 0; at < normalized.length;) {
        let size = longest;
        while (size && !userDefined.has(normalized.slice(at, at + size))) size--;
        const piece = size ? normalized.slice(at, at + size) : String.fromCodePoint(normalized.codePointAt(at)!);
        symbols.push({piece, isWhole: size > 0});
        at += piece.length;
      }
      for (;;) {
        let best = Infinity;
        let place = -1;
        for (let i = 0; i + 1 < symbols.length; i++) {
          const [left, right] = [symbols[i]!, symbols[i + 1]!];
          if (left.isWhole || right.isWhole || !small.hasPiece(left.piece + right.piece)) continue;
          const id = small.pieceToId(left.piece + right.piece);
          if (id >= firstNormal && isMerged(id) && id < best) [best, place] = [id, i];
        }
        if (place < 0) break;
        symbols.splice(place, 2, {piece: symbols[place]!.piece + symbols[place + 1]!.piece, isWhole: false});
      }
      return symbols.flatMap(({piece}) =>
        small.hasPiece(piece)
          ? [small.pieceToId(piece)]
          : [...new TextEncoder().encode(piece)].map(byte => byteIds[byte]!),
      );
    };
    fc.assert(
      fc.property(text, input => {
        expect(small.encode(input)).toEqual(slowly(input));
      }),
      {numRuns: 300},
    );
  });
});

describe('decoder', () => {
  test('holds bytes back until they form a character', () => {
    const stream = small.decoder();
    expect([0xe2, 0x82, 0xac, 0x41].map(byte => stream.push(byteIds[byte]!))).toEqual(['', '', '€', 'A']);
    expect(stream.flush()).toBe('');
    expect([0xf0, 0x9f, 0x98, 0x80].map(byte => stream.push(byteIds[byte]!))).toEqual(['', '', '', '😀']);
  });

  test('returns one U+FFFD for each byte that forms no character', () => {
    const stream = small.decoder();
    expect(stream.push(byteIds[0xe2]!)).toBe('');
    expect(stream.push(byteIds[0x82]!)).toBe('');
    expect(stream.push(small.pieceToId('<b>'))).toBe('\ufffd\ufffd<b>');
    expect(stream.push(byteIds[0xff]!)).toBe('\ufffd');
    expect(stream.push(byteIds[0xf0]!)).toBe('');
    expect(stream.flush()).toBe('\ufffd');
    expect(stream.flush()).toBe('');
  });

  test('property: the joined pieces equal the decoded whole, and no piece ends within a character', () => {
    fc.assert(
      fc.property(sequence, ids => {
        const stream = small.decoder();
        const parts = [...ids.map(id => stream.push(id)), stream.flush()];
        expect(parts.join('')).toBe(small.decode(ids));
        for (const part of parts) expect(part).toBe(wellFormed(part));
      }),
      {numRuns: 500},
    );
  });

  test('property: an encoded text is decoded without U+FFFD', () => {
    fc.assert(
      fc.property(text, input => {
        const stream = small.decoder();
        const parts = small.encode(input).map(id => stream.push(id));
        expect(parts.join('')).toBe(wellFormed(input).replaceAll('\u2581', ' '));
        expect(stream.flush()).toBe('');
      }),
    );
  });

  test.each(expected.variants)('with $name', ({proto, sequences}) => {
    const model = new SentencePiece(new Uint8Array(Buffer.from(proto, 'base64')));
    for (const [ids, decoded] of sequences) {
      const stream = model.decoder();
      expect(ids.map(id => stream.push(id)).join('') + stream.flush()).toBe(decoded);
    }
  });
});

describe('the vocabulary', () => {
  test('ids and pieces', () => {
    expect(small.vocabularySize).toBe(1500);
    expect([small.padId, small.eosId, small.bosId, small.unkId]).toEqual([0, 1, 2, 3]);
    pieces.forEach((piece, id) => expect(small.pieceToId(piece)).toBe(id));
    expect(new Set(pieces).size).toBe(1500);
    expect(small.hasPiece('<mask>')).toBe(true);
    expect(small.hasPiece('no such piece')).toBe(false);
    expect(small.hasPiece('')).toBe(false);
    expect(small.pieceToId('no such piece')).toBe(small.unkId);
  });

  test('a missing control piece has the id -1', () => {
    const {proto} = expected.variants[0]!;
    const model = new SentencePiece(new Uint8Array(Buffer.from(proto, 'base64')));
    expect([model.padId, model.bosId, model.eosId, model.unkId]).toEqual([-1, 1, 2, 0]);
  });

  test.each([-1, 1500, 0.5, NaN])('refuses the id %d', id => {
    const message = `\`id\` must be in range [0, 1499]. Received: ${id}`;
    expect(() => small.idToPiece(id)).toThrow(message);
    expect(() => small.decode([id])).toThrow(message);
    expect(() => small.decoder().push(id)).toThrow(message);
  });

  test('does not change when the given bytes do', () => {
    const bytes = vocabulary.slice();
    const model = new SentencePiece(bytes);
    bytes.fill(0);
    expect(model.encode('the river')).toEqual(small.encode('the river'));
  });
});
