/**
 * The vocabulary of a GGUF file as a SentencePiece model, with which texts get the same ids as with the model that
 * llama.cpp's converter read.
 */
import {ValueError} from '../../base/errors';
import {type GgufFile} from '../../formats/gguf';
import {PieceType} from '../../tokenizers/sentence_piece_proto';
import {type Piece, writeBpeProto} from '../../tokenizers/sentence_piece_writer';
import {SPACE_SYMBOL} from '../../tokenizers/symbols';
import {Metadata} from './metadata';

/** Kind of vocabularies that SentencePiece made. */
const SENTENCE_PIECE = 'llama';

/**
 * Converts the tokens. GGUF numbers types of tokens as SentencePiece does, with two differences, which are reversed
 * here: tokens that are recognized in texts contain spaces instead of "▁", and all tokens that Hugging Face calls
 * special are of the type "control". In SentencePiece, control pieces are never recognized in texts; in Gemma's
 * vocabulary only `<pad>`, `<bos>` and `<eos>` are such pieces, and `<start_of_turn>` is not.
 *
 * @param name of the file, for errors.
 * @throws ValueError if there is no vocabulary, or it is not a SentencePiece vocabulary.
 */
export function readVocabulary({metadata}: GgufFile, name: string): Uint8Array {
  const ggml = new Metadata(name, metadata, 'tokenizer.ggml.');
  const model = ggml.text('model');
  if (model !== SENTENCE_PIECE) {
    throw new ValueError(
      `Expected a vocabulary of SentencePiece in "${name}", with "${SENTENCE_PIECE}" as "tokenizer.ggml.model". ` +
        `Received: "${model}". Convert the model again from a folder that has Gemma's tokenizer.model.`,
    );
  }
  const tokens = ggml.texts('tokens');
  const scores = ggml.list('scores');
  const types = ggml.list('token_type');
  for (const [key, list] of Object.entries({scores, token_type: types})) {
    if (list.length !== tokens.length) throw ggml.invalid(key, `${tokens.length} numbers, one for each token,`);
  }
  const pieces = Array.from({length: tokens.length}, (_, id): Piece => {
    const text = tokens.at(id);
    const type = typeOf(types[id]!, text);
    if (type === undefined) throw ggml.invalid('token_type', `types from 1 to 6, which token ${id} has not,`);
    if (text === '') throw ggml.invalid('tokens', `texts that are not empty, which token ${id} is,`);
    return {text: text.replaceAll(' ', SPACE_SYMBOL), score: type === PieceType.normal ? scores[id]! : 0, type};
  });
  const texts = new Set(pieces.map(({text}) => text));
  const missing = Object.values(ROLES).find(piece => !texts.has(piece));
  if (missing !== undefined) throw ggml.invalid('tokens', `a vocabulary with "${missing}"`);
  return writeBpeProto(pieces, ROLES);
}

/**
 * The pieces that have a special role in SentencePiece. Their ids in the metadata are not used: that of `eos` is often
 * the one of `<end_of_turn>`.
 */
const ROLES = {unk: '<unk>', bos: '<bos>', eos: '<eos>', pad: '<pad>'};

function typeOf(type: number, text: string): number | undefined {
  if (text === ROLES.unk) return PieceType.unknown;
  if (type === PieceType.unknown) return PieceType.userDefined;
  if (type === PieceType.control) return Object.values(ROLES).includes(text) ? type : PieceType.userDefined;
  return type >= PieceType.normal && type <= PieceType.byte ? type : undefined;
}
