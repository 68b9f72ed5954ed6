/**
 * `tokenizer.json` of Hugging Face's tokenizers as a SentencePiece model, where both produce the same ids: BPE that was
 * made from SentencePiece, like Gemma's.
 */
import {listed, show, ValueError} from '../base/errors';
import {isObject, type Json} from '../base/json';
import {parseSentencePieceProto, PieceType} from './sentence_piece_proto';
import {type Piece, withPieces, writeBpeProto} from './sentence_piece_writer';
import {SPACE_SYMBOL} from './symbols';

/** A token that was added to a vocabulary, or has replaced one of its pieces. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
}

/**
 * In Gemma's own vocabulary these are control pieces, which are never recognized in a text; all other added tokens are.
 * `tokenizer.json` does not make this distinction.
 */
const NAMES = {unk: '<unk>', bos: '<bos>', eos: '<eos>', pad: '<pad>'};
const CONTROL = [NAMES.bos, NAMES.eos, NAMES.pad];

/**
 * The token with which transformers marks the parts of an image. KerasHub uses a different one, from the vocabulary
 * itself.
 */
export const IMAGE_TOKEN = '<image_soft_token>';

const userDefined = (text: string): Piece => ({text, score: 0, type: PieceType.userDefined});

/**
 * A SentencePiece model with tokens that were added to it later.
 *
 * @param name the folder, for errors.
 * @throws ValueError if ids are left out.
 */
export function addTokens(proto: Uint8Array, added: readonly AddedToken[], name: string): Uint8Array {
  const {bytes, starts, ends} = parseSentencePieceProto(proto);
  const decoder = new TextDecoder('utf-8', {ignoreBOM: true});
  const pieceOf = (id: number) => decoder.decode(bytes.subarray(starts[id], ends[id]));
  const wanted = added.filter(({content}) => content !== IMAGE_TOKEN);
  const changed = wanted.filter(({id, content}) => id >= starts.length || pieceOf(id) !== content);
  if (changed.length === 0) return proto;
  // The image token is needed only so that later tokens have the right ids.
  const all = new Map(changed.map(({id, content}) => [id, userDefined(content)]));
  const last = [...all.keys()].reduce((a, b) => Math.max(a, b));
  for (const {id, content} of added) if (content === IMAGE_TOKEN && id < last) all.set(id, userDefined(content));
  for (let id = starts.length; id <= last; id++) if (!all.has(id)) throw gap(name, id);
  return withPieces(proto, all);
}

const gap = (name: string, id: number) =>
  new ValueError(
    `Expected token ids without gaps in "${name}". Received: no token with the id ${id}, but tokens with larger ids. ` +
      'Fetch the tokenizer again.',
  );

/** Settings of a tokenizer with which SentencePiece would produce different ids. */
function differences(json: {[key: string]: Json}, model: {[key: string]: Json}): string[] {
  const problems: string[] = [];
  const only = (key: string, value: unknown, ...expected: unknown[]) => {
    if (!expected.some(one => JSON.stringify(one ?? null) === JSON.stringify(value ?? null))) {
      problems.push(`${key}=${show(value)}, expected ${show(expected[0])}`);
    }
  };
  only('model.type', model.type, 'BPE');
  only('model.byte_fallback', model.byte_fallback, true);
  only('model.ignore_merges', model.ignore_merges ?? false, false);
  only('model.dropout', model.dropout, null, 0);
  only('model.continuing_subword_prefix', model.continuing_subword_prefix, null, '');
  only('model.end_of_word_suffix', model.end_of_word_suffix, null, '');
  const replace = {type: 'Replace', pattern: {String: ' '}, content: SPACE_SYMBOL};
  only('normalizer', json.normalizer, replace, {type: 'Sequence', normalizers: [replace]});
  // After normalization there is no space left to split at.
  const split = {type: 'Split', pattern: {String: ' '}, behavior: 'MergedWithPrevious', invert: false};
  only('pre_tokenizer', json.pre_tokenizer, split, null);
  return problems;
}

/**
 * The SentencePiece model of a `tokenizer.json`.
 *
 * @param file its name, for errors.
 * @throws ValueError if SentencePiece would produce different ids, or if ids are left out.
 */
export function protoOfTokenizerJson(json: Json, file: string): Uint8Array {
  const model = isObject(json) && isObject(json.model) ? json.model : {};
  const refuse = (received: string) =>
    new ValueError(
      `Expected a tokenizer in "${file}" that can be read as a SentencePiece model, as Gemma's can. Received: ${received}.`,
    );
  const problems = isObject(json) ? differences(json, model) : [show(json)];
  if (problems.length) throw refuse(listed(problems));
  const {vocab, merges} = model;
  if (!isObject(vocab) || !Array.isArray(merges)) throw refuse('no vocab and merges in its model');
  const given = (json as {added_tokens?: Json}).added_tokens;
  const added = new Set<string>();
  const pieces: (string | undefined)[] = [];
  const entries = Object.entries(vocab);
  const limit = 2 * entries.length + 1_000_000;
  const place = (text: unknown, id: unknown) => {
    if (typeof text !== 'string' || text === '' || !Number.isSafeInteger(id) || (id as number) < 0) {
      throw refuse(`the token ${show(text)} with the id ${show(id)}`);
    }
    // Far more than all tokens: a list of this length is never created.
    if ((id as number) > limit) throw gap(file, pieces.length);
    pieces[id as number] = text;
  };
  for (const [text, id] of entries) place(text, id);
  for (const token of Array.isArray(given) ? given : []) {
    if (!isObject(token)) throw refuse(`the added token ${show(token)}`);
    place(token.content, token.id);
    added.add(token.content as string);
  }
  if (pieces.at(-1) === IMAGE_TOKEN) pieces.pop();
  const missing = pieces.findIndex(piece => piece === undefined);
  if (missing >= 0 || pieces.length === 0) throw gap(file, Math.max(missing, 0));
  const texts = pieces as string[];
  const ranks = ranksOf(merges, texts, added, refuse);
  return writeBpeProto(
    texts.map(text => pieceOf(text, added, ranks)),
    NAMES,
  );
}

const isByte = (text: string) => /^<0x[0-9A-F]{2}>$/.test(text);

function pieceOf(text: string, added: ReadonlySet<string>, ranks: ReadonlyMap<string, number>): Piece {
  if (text === NAMES.unk) return {text, score: 0, type: PieceType.unknown};
  if (CONTROL.includes(text)) return {text, score: 0, type: PieceType.control};
  if (isByte(text)) return {text, score: 0, type: PieceType.byte};
  if (added.has(text)) return userDefined(text);
  return {text, score: -(ranks.get(text) ?? ranks.size), type: PieceType.normal};
}

/**
 * The order in which pieces are merged. SentencePiece joins any two pieces that form a third one, and the third decides
 * which come first. Merges are equivalent if they list every such pair, with all pairs of one piece together.
 *
 * @throws what `refuse` returns, if they say something else.
 */
function ranksOf(
  merges: readonly Json[],
  texts: readonly string[],
  added: ReadonlySet<string>,
  refuse: (received: string) => ValueError,
): Map<string, number> {
  const normal = new Set(texts.filter(text => !added.has(text) && !isByte(text)));
  const ranks = new Map<string, number>();
  const pairs = new Map<string, number>();
  let previous: string | undefined;
  for (const merge of merges) {
    const [left, right, ...rest] = typeof merge === 'string' ? merge.split(' ') : Array.isArray(merge) ? merge : [];
    if (typeof left !== 'string' || typeof right !== 'string' || rest.length) throw refuse(`the merge ${show(merge)}`);
    if (!normal.has(left) || !normal.has(right)) continue;
    const result = left + right;
    if (!normal.has(result)) continue;
    if (result !== previous && ranks.has(result)) {
      throw refuse(`merges into ${show(result)} in several places, with others between them`);
    }
    if (result !== previous) ranks.set(result, ranks.size);
    pairs.set(result, (pairs.get(result) ?? 0) + 1);
    previous = result;
  }
  for (const text of normal) {
    let possible = 0;
    for (let i = 1; i < text.length; i++) {
      // Never between the halves of a surrogate pair.
      if ((text.charCodeAt(i) & 0xfc00) === 0xdc00) continue;
      if (normal.has(text.slice(0, i)) && normal.has(text.slice(i))) possible++;
    }
    const listedPairs = pairs.get(text) ?? 0;
    if (listedPairs !== possible) {
      throw refuse(`${listedPairs} merges into ${show(text)}, which ${possible} pairs of its tokens form`);
    }
  }
  return ranks;
}
