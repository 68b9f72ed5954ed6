/** The tokenizer against KerasHub and sentencepiece. */
import {ValueError} from '../../../src/base/errors';
import {Gemma3Tokenizer, type Gemma3TokenizerArgs} from '../../../src/models/gemma3/gemma3_tokenizer';
import {readExpected, readSmallVocabulary, replaceText, type SmallExpected} from '../../support/tokenizer_fixtures';

const expected = readExpected<SmallExpected>('small.json');
const {kerashub} = expected;
const proto = readSmallVocabulary();
const tokenizer = new Gemma3Tokenizer({proto});

/** The vocabulary with one token renamed. */
const without = (vocabulary: Uint8Array, token: string) =>
  replaceText(vocabulary, token, `<${'~'.repeat(token.length - 2)}>`);
/** The vocabulary without vision tokens. */
const blind = ['<img>', '<start_of_image>', '<end_of_image>'].reduce(without, proto);

describe('against KerasHub', () => {
  test.each(kerashub.outputs)('%j', (kwargs, outputs) => {
    const configured = new Gemma3Tokenizer({
      proto,
      addBos: kwargs.add_bos,
      addEos: kwargs.add_eos,
      sequenceLength: kwargs.sequence_length,
    });
    expect(configured.tokenize(kerashub.texts)).toEqual(outputs);
    expect(kerashub.texts.map(text => configured.tokenize(text))).toEqual(outputs);
  });

  test('the special tokens and their ids', () => {
    expect({
      start_token_id: tokenizer.startTokenId,
      end_token_id: tokenizer.endTokenId,
      pad_token_id: tokenizer.padTokenId,
      image_placeholder_id: tokenizer.imagePlaceholderId,
      start_of_image_token_id: tokenizer.startOfImageTokenId,
      end_of_image_token_id: tokenizer.endOfImageTokenId,
    }).toEqual(kerashub.ids);
    expect([...tokenizer.specialTokens].sort()).toEqual(kerashub.special_tokens);
    expect(tokenizer.specialTokenIds).toEqual(tokenizer.specialTokens.map(token => tokenizer.tokenToId(token)));
  });

  test('the vocabulary', () => {
    expect(tokenizer.vocabularySize).toBe(kerashub.vocabulary_size);
    expect(kerashub.tokens.map((_, id) => tokenizer.idToToken(id))).toEqual(kerashub.tokens);
    expect(tokenizer.getVocabulary()).toHaveLength(kerashub.vocabulary_size);
    expect(tokenizer.getVocabulary().slice(0, kerashub.tokens.length)).toEqual(kerashub.tokens);
    expect(tokenizer.tokenToId('no such token')).toBe(kerashub.unknown_token_id);
  });

  test.each(kerashub.id_errors)('the error for the id %d', (id, message) => {
    expect(() => tokenizer.idToToken(id)).toThrow(new ValueError(message));
  });

  test.each(kerashub.missing_token_errors)('the error without %s', (token, message) => {
    expect(() => new Gemma3Tokenizer({proto: without(proto, token)})).toThrow(new ValueError(message));
  });
});

describe('hasVisionTokens: false', () => {
  test('vision tokens may be missing, and their ids are -1', () => {
    const textOnly = new Gemma3Tokenizer({proto: blind, hasVisionTokens: false});
    expect([...textOnly.specialTokens].sort()).toEqual(kerashub.blind_special_tokens);
    expect([textOnly.imagePlaceholderId, textOnly.startOfImageTokenId, textOnly.endOfImageTokenId]).toEqual([
      -1, -1, -1,
    ]);
    expect(textOnly.specialTokenIds).toEqual([2, 1, 0]);
    expect(() => new Gemma3Tokenizer({proto: blind})).toThrow('Cannot find special token');
  });
});

describe('texts and ids', () => {
  test('equal those of sentencepiece', () => {
    const texts = expected.texts.map(([text]) => text);
    expect(tokenizer.tokenize(texts)).toEqual(expected.texts.map(([, ids]) => ids));
    expect(tokenizer.detokenize(expected.texts.map(([, ids]) => ids))).toEqual(
      expected.texts.map(([, , decoded]) => decoded),
    );
  });

  test('of a single text or a batch', () => {
    const ids = tokenizer.tokenize('the river');
    expect(tokenizer.tokenize(['the river', ''])).toEqual([ids, []]);
    expect(tokenizer.detokenize(ids)).toBe('the river');
    expect(tokenizer.detokenize([ids, []])).toEqual(['the river', '']);
    expect(tokenizer.tokenize([])).toEqual([]);
    expect(tokenizer.detokenize([])).toBe('');
  });

  test('of a text with start, end and padding tokens, which have no text', () => {
    const around = new Gemma3Tokenizer({proto, addBos: true, addEos: true, sequenceLength: 40});
    const ids = around.tokenize('the river');
    expect(ids).toHaveLength(40);
    expect(around.detokenize(ids)).toBe('the river');
  });

  test('decoded one by one', () => {
    const stream = tokenizer.decoder();
    const ids = tokenizer.tokenize('<start_of_turn>model\n€ 𠀋');
    expect(ids.map(id => stream.push(id)).join('')).toBe('<start_of_turn>model\n€ 𠀋');
    expect(stream.flush()).toBe('');
  });

  test('refuses other inputs', () => {
    expect(() => tokenizer.tokenize(3 as unknown as string)).toThrow(
      'Expected the input of `tokenize` to be a string or an array of strings. Received: 3.',
    );
    expect(() => tokenizer.tokenize(['a', 3] as unknown as string[])).toThrow('Received: ["a",3].');
    expect(() => tokenizer.detokenize('abc' as unknown as number[])).toThrow(
      'Expected the input of `detokenize` to be an array of ids or an array of such arrays. Received: "abc".',
    );
    expect(() => tokenizer.detokenize([[1], 2] as unknown as number[])).toThrow('Received: 2 at [1].');
    expect(() => tokenizer.detokenize([1500])).toThrow('`id` must be in range [0, 1499]. Received: 1500');
  });
});

describe('arguments', () => {
  test('defaults and configuration', () => {
    expect(tokenizer.getConfig()).toEqual({
      name: 'gemma3_tokenizer',
      hasVisionTokens: true,
      addBos: false,
      addEos: false,
      sequenceLength: null,
    });
    const config = {name: 'mine', hasVisionTokens: false, addBos: true, addEos: true, sequenceLength: 7};
    expect(new Gemma3Tokenizer({proto, ...config}).getConfig()).toEqual(config);
    expect(tokenizer.proto).toEqual(proto);
  });

  test.each<[Record<string, unknown>, string]>([
    [{addBOS: true}, 'Gemma3Tokenizer has no argument "addBOS".'],
    [{addBos: 1}, 'Expected `addBos` to be true or false. Received: 1.'],
    [{addEos: 'yes'}, 'Expected `addEos` to be true or false. Received: "yes".'],
    [{hasVisionTokens: null}, 'Expected `hasVisionTokens` to be true or false. Received: null.'],
    [{sequenceLength: 0}, 'Expected `sequenceLength` to be a positive integer or null. Received: 0.'],
    [{sequenceLength: 1.5}, 'Expected `sequenceLength` to be a positive integer or null. Received: 1.5.'],
    [{proto: undefined}, 'Expected a SentencePiece model as a Uint8Array'],
  ])('%j', (args, message) => {
    const all = {proto, ...args} as unknown as Gemma3TokenizerArgs;
    expect(() => new Gemma3Tokenizer(all)).toThrow(ValueError);
    expect(() => new Gemma3Tokenizer(all)).toThrow(message);
  });
});
