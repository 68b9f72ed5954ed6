/** Reading SentencePiece's model file: valid, damaged and unsupported models. */
import fc from 'fast-check';
import {ValueError} from '../../src/base/errors';
import {SentencePiece} from '../../src/tokenizers/sentence_piece';
import {concatenate, field, numberField, readSmallVocabulary, replaceText} from '../support/tokenizer_fixtures';

const vocabulary = readSmallVocabulary();

/** Appends settings: in a protocol buffer, a message that occurs twice is merged. */
const withTrainer = (...parts: Uint8Array[]) => concatenate(vocabulary, field(2, concatenate(...parts)));
const withNormalizer = (...parts: Uint8Array[]) => concatenate(vocabulary, field(3, concatenate(...parts)));
const withPiece = (...parts: Uint8Array[]) => concatenate(vocabulary, field(1, concatenate(...parts)));

describe('bytes that are not a model', () => {
  test.each([
    ['nothing', ''],
    ['JSON', '{"model": {"type": "BPE"}}'],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4689074\n'],
    ['HTML', '<!DOCTYPE html><html></html>'],
    ['text', 'the river was high that spring'],
    ['zeros', '\0\0\0\0\0\0\0\0'],
    ['a gzip', '\x1f\u008b\x08\0\0\0\0\0'],
  ])('%s', (_, content) => {
    const bytes = Uint8Array.from(content, character => character.charCodeAt(0));
    expect(() => new SentencePiece(bytes)).toThrow(ValueError);
    expect(() => new SentencePiece(bytes)).toThrow(
      /^Expected a SentencePiece model \(the bytes of a `vocabulary\.spm` file\)\. Received: \d+ bytes, where .+\. Check/,
    );
  });

  test.each([undefined, null, 'vocabulary.spm', [1, 2], new ArrayBuffer(3)])('%p', value => {
    expect(() => new SentencePiece(value as unknown as Uint8Array)).toThrow(
      'Expected a SentencePiece model as a Uint8Array',
    );
  });

  test('a model truncated at any position', () => {
    for (let length = vocabulary.length - 400; length < vocabulary.length; length++) {
      expect(() => new SentencePiece(vocabulary.slice(0, length))).toThrow(ValueError);
    }
    fc.assert(
      fc.property(fc.nat(vocabulary.length - 1), length => {
        expect(() => new SentencePiece(vocabulary.slice(0, length))).toThrow(ValueError);
      }),
    );
  });

  test('property: damaged bytes give only a model or a ValueError', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(vocabulary.length - 1), fc.nat(255)), {maxLength: 5}), changes => {
        const bytes = vocabulary.slice();
        for (const [at, byte] of changes) bytes[at] = byte;
        try {
          new SentencePiece(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(ValueError);
        }
      }),
    );
  });

  test('property: so do arbitrary bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({maxLength: 100}), bytes => {
        expect(() => new SentencePiece(bytes)).toThrow(ValueError);
      }),
    );
  });
});

describe('a model that cannot be run', () => {
  test('of an unknown type', () => {
    expect(() => new SentencePiece(withTrainer(numberField(3, 9)))).toThrow(ValueError);
    expect(() => new SentencePiece(withTrainer(numberField(3, 9)))).toThrow(
      'Expected a SentencePiece model of the type "unigram", "bpe", "word", "char". Received: one of the type 9.',
    );
  });

  test('with rules of normalization that are damaged', () => {
    expect(() => new SentencePiece(withNormalizer(field(1, 'nmt_nfkc'), field(2, [1, 2, 3])))).toThrow(
      'Expected rules of normalization as SentencePiece compiles them. Received: 3 bytes with a trie of 0 bytes.',
    );
  });

  test('with denormalization rules', () => {
    const bytes = concatenate(vocabulary, field(5, field(2, [1, 2, 3])));
    expect(() => new SentencePiece(bytes)).toThrow(
      'Received: one with rules of denormalization. Train it without `denormalization_rule_tsv`.',
    );
  });
});

describe('a model with a mistake', () => {
  test.each([
    ['a piece twice', withPiece(field(1, '<b>')), 'the piece "<b>" occurs twice'],
    ['two unknowns', withPiece(field(1, '<unk2>'), numberField(3, 2)), 'there are two unknown pieces'],
    ['an empty piece', withPiece(numberField(3, 1)), 'piece 1500 is empty'],
    ['an invalid type', withPiece(field(1, 'xyzzy'), numberField(3, 9)), 'piece 1500 is of the type 9'],
    ['bytes without fallback', withTrainer(numberField(35, 0)), 'byte pieces although byte fallback is off'],
    ['no byte', replaceText(vocabulary, '<0x0A>', '<0x0a>'), 'there is no piece <0x0A> although byte fallback is on'],
    ['a byte too many', withPiece(field(1, '<0x0a>'), numberField(3, 6)), 'more than 256 byte pieces'],
  ])('%s', (_, bytes, reason) => {
    expect(() => new SentencePiece(bytes)).toThrow(ValueError);
    expect(() => new SentencePiece(bytes)).toThrow(reason);
  });
});

describe('a valid model', () => {
  const ids = new SentencePiece(vocabulary).encode('the river');

  test('with unknown fields', () => {
    const unknown = concatenate(
      field(201, 'extension'),
      numberField(7, 1),
      [8 * 8 + 1, 1, 2, 3, 4, 5, 6, 7, 8],
      [8 * 9 + 5, 1, 2, 3, 4],
      field(4, 'self test data'),
    );
    expect(new SentencePiece(concatenate(unknown, vocabulary)).encode('the river')).toEqual(ids);
  });

  test('with a negative number, such as the id of a missing piece', () => {
    const minusOne = [0xd8, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    expect(new SentencePiece(withTrainer(Uint8Array.from(minusOne))).encode('the river')).toEqual(ids);
  });

  test('in the middle of a buffer', () => {
    const buffer = concatenate([1, 2, 3], vocabulary, [4, 5]);
    expect(new SentencePiece(buffer.subarray(3, -2)).encode('the river')).toEqual(ids);
    expect(new SentencePiece(Buffer.from(vocabulary)).encode('the river')).toEqual(ids);
  });
});
