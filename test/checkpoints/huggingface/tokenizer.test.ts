/** The tokenizer of a Hugging Face folder gives the ids of the SentencePiece model that it was made from. */
import {cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {type JsonObject} from '../../../src/base/json';
import {Gemma3CausalLMPreprocessor} from '../../../src/models/gemma3/gemma3_causal_lm_preprocessor';
import {Gemma3Tokenizer} from '../../../src/models/gemma3/gemma3_tokenizer';
import {protoOfTokenizerJson} from '../../../src/tokenizers/tokenizer_json';
import {fixture, fixtureBytes, fixtureJson} from '../../support/fixtures';
import {rejection} from '../../support/hdf5_files';

const SHARDS = 'huggingface/shards';

interface TokenizerJson extends JsonObject {
  model: JsonObject;
  added_tokens: JsonObject[];
}

interface Cases {
  texts: [text: string, ids: number[], decoded: string][];
}

const folders: string[] = [];
afterAll(() => folders.forEach(folder => rmSync(folder, {recursive: true})));

/** A copy of the tokenizer's files, in which a test may change JSON. */
function tokenizerFiles(from: string, changes: Record<string, (json: JsonObject) => JsonObject> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'tokenizer-'));
  folders.push(folder);
  cpSync(fixture(from), folder, {recursive: true, filter: path => !/config\.json$|safetensors/.test(path)});
  for (const [file, change] of Object.entries(changes)) {
    const path = join(folder, file);
    let json = {};
    try {
      json = JSON.parse(readFileSync(path, 'utf8')) as JsonObject;
    } catch {
      // A new file.
    }
    writeFileSync(path, JSON.stringify(change(json)));
  }
  return folder;
}

describe('tokenizer.json alone', () => {
  test('gives the ids and texts of SentencePiece', async () => {
    const tokenizer = await Gemma3Tokenizer.fromPreset(fixture(SHARDS));
    expect(tokenizer.getVocabulary()).toEqual(
      new Gemma3Tokenizer({proto: fixtureBytes('tokenizer/vocabulary.spm')}).getVocabulary(),
    );
    const {texts} = fixtureJson<Cases>('tokenizer/small.json');
    expect(texts.map(([text]) => tokenizer.tokenize(text))).toEqual(texts.map(([, ids]) => ids));
    expect(texts.map(([, ids]) => tokenizer.detokenize(ids))).toEqual(texts.map(([, , decoded]) => decoded));
  });

  test('in a folder with nothing else', async () => {
    const tokenizer = await Gemma3Tokenizer.fromPreset(tokenizerFiles(SHARDS));
    expect(tokenizer.startTokenId).toBe(2);
    expect(tokenizer.endTokenId).toBe(1);
  });

  const original = () => fixtureJson<TokenizerJson>(`${SHARDS}/tokenizer.json`);

  test.each<[string, (it: TokenizerJson) => void, string]>([
    ['of another type', it => void (it.model.type = 'WordPiece'), 'model.type="WordPiece", expected "BPE"'],
    ['without bytes', it => void (it.model.byte_fallback = false), 'model.byte_fallback=false, expected true'],
    [
      'that normalizes',
      it => void (it.normalizer = {type: 'NFKC'}),
      'normalizer={"type":"NFKC"}, expected {"type":"Replace"',
    ],
    ['that splits words', it => void (it.pre_tokenizer = {type: 'ByteLevel'}), 'pre_tokenizer={"type":"ByteLevel"}'],
    [
      'with a merge left out',
      it => void (it.model.merges as unknown[]).splice(300, 1),
      ', which 1 pairs of its tokens form',
    ],
    ['with ids left out', it => void it.added_tokens.push({id: 1502, content: '<new>'}), 'no token with the id 1500'],
    [
      'with an enormous id',
      it => void it.added_tokens.push({id: 2 ** 40, content: '<new>'}),
      'no token with the id 1500',
    ],
    ['without merges', it => void delete it.model.merges, 'no vocab and merges in its model'],
  ])('a tokenizer %s is refused', (_, change, message) => {
    const changed = original();
    change(changed);
    expect(() => protoOfTokenizerJson(changed, 'tokenizer.json')).toThrow(message);
  });
});

describe('added tokens', () => {
  const addedTokens = (tokens: Record<string, string>) => () => ({
    added_tokens_decoder: Object.fromEntries(Object.entries(tokens).map(([id, content]) => [id, {content}])),
  });

  test('are read whole, in new places and in those of unused pieces', async () => {
    const added = addedTokens({6: '<tool>', 1500: '<image_soft_token>', 1501: '<call>'});
    const folder = tokenizerFiles('huggingface/text', {'tokenizer_config.json': added});
    const tokenizer = await Gemma3Tokenizer.fromPreset(folder);
    expect(tokenizer.vocabularySize).toBe(1502);
    expect(tokenizer.tokenize('<tool><call>')).toEqual([6, 1501]);
    expect(tokenizer.idToToken(7)).toBe('<unused1>');
    expect(tokenizer.startTokenId).toBe(2);
  });

  test('the vocabulary stays as it is without new ones, and with only the place of an image', async () => {
    const added = addedTokens({0: '<pad>', 1500: '<image_soft_token>'});
    const folder = tokenizerFiles('huggingface/text', {'tokenizer_config.json': added});
    const {proto} = await Gemma3Tokenizer.fromPreset(folder);
    expect(proto).toEqual(fixtureBytes('tokenizer/vocabulary.spm'));
  });

  test('with ids left out are refused', async () => {
    const folder = tokenizerFiles('huggingface/text', {'added_tokens.json': () => ({'<call>': 1502})});
    expect(await rejection(Gemma3Tokenizer.fromPreset(folder))).toContain('no token with the id 1500');
  });
});

test('the preprocessor of a folder', async () => {
  const preprocessor = await Gemma3CausalLMPreprocessor.fromPreset(fixture('huggingface/vision'));
  const {numVisionTokensPerImage, imageConverter, tokenizer} = preprocessor;
  expect(numVisionTokensPerImage).toBe(4);
  expect(tokenizer.hasVisionTokens).toBe(true);
  expect(imageConverter).toMatchObject({imageSize: [16, 16], antialias: true, cropToAspectRatio: false});
});
