/**
 * A SentencePiece model as `tokenizer.json` of Hugging Face's tokenizers: the counterpart of `tokenizer_json.ts`, for
 * the vocabularies that produce the same ids there.
 */
import {listed, ValueError} from '../base/errors';
import {type Json, type JsonObject} from '../base/json';
import {ModelType, parseSentencePieceProto, PieceType, type SentencePieceProto} from './sentence_piece_proto';
import {SPACE_SYMBOL} from './symbols';
import {type AddedToken} from './tokenizer_json';

/** Information about a vocabulary that Hugging Face's files contain and SentencePiece's do not. */
export interface VocabularyNotes {
  /** User-defined tokens that are left out of a text by `skip_special_tokens`. Control tokens always are. */
  readonly special: readonly string[];
  /** Tokens after those of the model, such as the placeholder of an image. */
  readonly added: readonly AddedToken[];
  /** Tokens before and after each text. */
  readonly before: readonly string[];
  readonly after: readonly string[];
}

/** The pieces of a model. */
interface Pieces {
  readonly texts: readonly string[];
  readonly proto: SentencePieceProto;
}

function readPieces(bytes: Uint8Array): Pieces {
  const proto = parseSentencePieceProto(bytes);
  const decoder = new TextDecoder('utf-8', {ignoreBOM: true});
  const texts = Array.from(proto.starts, (start, id) => decoder.decode(proto.bytes.subarray(start, proto.ends[id])));
  return {texts, proto};
}

/** @throws ValueError for a vocabulary with which Hugging Face's tokenizers would produce different ids. */
function checkGemmaLike({texts, proto}: Pieces): void {
  const problems = Object.entries({
    'a type other than BPE': proto.modelType !== ModelType.bpe,
    'no byte fallback': !proto.byteFallback,
    'normalization by a table': proto.charsmap.length > 0 || proto.hasDenormalizer,
    'a space that is added to each text': proto.addDummyPrefix || proto.treatWhitespaceAsSuffix,
    'removal of spaces': proto.removeExtraWhitespaces,
    'spaces that are not replaced': !proto.escapeWhitespaces,
    'pieces of the type UNUSED': proto.types.includes(PieceType.unused),
    'several pieces of the same text': new Set(texts).size !== texts.length,
  }).flatMap(([problem, found]) => (found ? [problem] : []));
  if (problems.length === 0) return;
  throw new ValueError(
    'Expected a vocabulary like that of Gemma 3, BPE with byte fallback, for the tokenizer of a Hugging Face folder. ' +
      `Received: one with ${listed(problems)}. Save the model as a Keras preset, or with a tokenizer like Gemma's.`,
  );
}

/** Describes the tokens that are matched in a text before anything else, as tokenizers does. */
export function addedTokens(bytes: Uint8Array, notes: VocabularyNotes): (JsonObject & AddedToken)[] {
  const {texts, proto} = readPieces(bytes);
  const own = texts.flatMap((content, id) => {
    const type = proto.types[id]!;
    const special = type === PieceType.control || type === PieceType.unknown || notes.special.includes(content);
    return special || type === PieceType.userDefined ? [described(id, content, special)] : [];
  });
  return [...own, ...notes.added.map(({id, content}) => described(id, content, true))];
}

const described = (id: number, content: string, special: boolean) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  // Runs of spaces are matched after spaces have been replaced, as SentencePiece does.
  normalized: content.includes(SPACE_SYMBOL),
  special,
});

/**
 * Pairs of pieces in the order in which they are merged. SentencePiece merges any two pieces that form a third one, which
 * decides the order. Tokens that are matched as a whole are left out.
 */
function mergesOf({texts, proto}: Pieces): [string, string][] {
  const normal = texts.flatMap((text, id) => (proto.types[id] === PieceType.normal ? [{text, id}] : []));
  const known = new Set(normal.map(({text}) => text));
  const {scores} = proto;
  normal.sort((x, y) => scores[y.id]! - scores[x.id]! || x.id - y.id);
  const merges: [string, string][] = [];
  for (const {text} of normal) {
    for (let i = text.length - 1; i > 0; i--) {
      // Never between the halves of a surrogate pair.
      if ((text.charCodeAt(i) & 0xfc00) === 0xdc00) continue;
      const [left, right] = [text.slice(0, i), text.slice(i)];
      if (known.has(left) && known.has(right)) merges.push([left, right]);
    }
  }
  return merges;
}

/**
 * The contents of `tokenizer.json`.
 *
 * @param bytes a SentencePiece model.
 * @throws ValueError for a vocabulary with which Hugging Face's tokenizers would produce different ids.
 */
export function tokenizerJson(bytes: Uint8Array, notes: VocabularyNotes): JsonObject {
  const pieces = readPieces(bytes);
  checkGemmaLike(pieces);
  const {texts, proto} = pieces;
  const ids = new Map([...texts.map((text, id) => [text, id] as const), ...notes.added.map(idOf)]);
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(bytes, notes),
    normalizer: {type: 'Replace', pattern: {String: ' '}, content: SPACE_SYMBOL},
    pre_tokenizer: {type: 'Split', pattern: {String: ' '}, behavior: 'MergedWithPrevious', invert: false},
    post_processor: postProcessor(notes, ids),
    decoder: {
      type: 'Sequence',
      decoders: [
        {type: 'Replace', pattern: {String: SPACE_SYMBOL}, content: ' '},
        {type: 'ByteFallback'},
        {type: 'Fuse'},
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: proto.unkPiece,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      // Works for a piece named `__proto__` too, which an assignment would lose.
      vocab: Object.fromEntries(texts.map((text, id) => [text, id])),
      merges: mergesOf(pieces),
    },
  };
}

const idOf = ({id, content}: AddedToken) => [content, id] as const;

/** Puts tokens before and after each text. */
function postProcessor({before, after}: VocabularyNotes, ids: ReadonlyMap<string, number>): JsonObject {
  const token = (type: number) => (id: string) => ({SpecialToken: {id, type_id: type}});
  const sequence = (id: string, type: number): Json[] => [
    ...before.map(token(type)),
    {Sequence: {id, type_id: type}},
    ...after.map(token(type)),
  ];
  return {
    type: 'TemplateProcessing',
    single: sequence('A', 0),
    pair: [...sequence('A', 0), ...sequence('B', 1)],
    special_tokens: Object.fromEntries([...before, ...after].map(id => [id, {id, ids: [ids.get(id)!], tokens: [id]}])),
  };
}
