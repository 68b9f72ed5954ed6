/** Writes a vocabulary of SentencePiece as llama.cpp's converter does: the counterpart of `vocabulary.ts`. */
import {ValueError} from '../../base/errors';
import {type GgufWriter} from '../../formats/gguf';
import {
  ModelType,
  parseSentencePieceProto,
  PieceType,
  type SentencePieceProto,
} from '../../tokenizers/sentence_piece_proto';
import {SPACE_SYMBOL} from '../../tokenizers/symbols';

/** The score of tokens that are recognized in texts, and of rows of the embedding that have no token. */
const SCORES = {added: -1000, missing: -10_000};

const utf8 = new TextDecoder('utf-8', {ignoreBOM: true});
const encoder = new TextEncoder();

/** A vocabulary in the form of GGUF files. */
export interface GgufVocabulary {
  readonly tokens: readonly Uint8Array[];
  readonly scores: Float32Array;
  readonly types: Int32Array;
  /** The id of a token; undefined if there is none. */
  idOf(token: string): number | undefined;
}

/**
 * Converts a SentencePiece model.
 *
 * @param rows of the embedding. Rows without a piece get a token that is never used; pieces without a row are left out.
 * @param isSpecial whether llama.cpp should treat a token as a control token, for example those that end
 * turns.
 * @throws ValueError if llama.cpp has no such model.
 */
export function convertVocabulary(
  proto: Uint8Array,
  rows: number,
  isSpecial: (token: string) => boolean,
  name: string,
): GgufVocabulary {
  const model = parseSentencePieceProto(proto);
  checkModel(model, name);
  const {bytes, starts, ends, types: pieceTypes, scores: pieceScores} = model;
  if (starts.length > rows) {
    console.warn(
      `"${name}" has ${starts.length} tokens and an embedding for ${rows}. Those from ${rows} on are left out of the file: ` +
        'the model cannot read them.',
    );
  }
  const tokens: Uint8Array[] = [];
  const scores = new Float32Array(rows).fill(SCORES.missing);
  const types = new Int32Array(rows).fill(PieceType.unused);
  const ids = new Map<string, number>();
  for (let id = 0; id < rows; id++) {
    if (id >= starts.length) {
      tokens.push(encoder.encode(`[PAD${id}]`));
      continue;
    }
    const piece = bytes.subarray(starts[id], ends[id]);
    const type = pieceTypes[id]!;
    if (type === PieceType.normal || type === PieceType.byte || type === PieceType.unused) {
      tokens.push(piece);
      scores[id] = pieceScores[id]!;
      types[id] = type;
      continue;
    }
    const text = utf8.decode(piece);
    const special = type !== PieceType.userDefined || isSpecial(text);
    tokens.push(special ? piece : encoder.encode(text.replaceAll(SPACE_SYMBOL, ' ')));
    scores[id] = SCORES.added;
    types[id] = special ? PieceType.control : PieceType.userDefined;
    ids.set(text, id);
  }
  return {tokens, scores, types, idOf: token => ids.get(token)};
}

/** Checks settings that are constants in llama.cpp's tokenizer for these vocabularies. */
function checkModel(model: SentencePieceProto, name: string): void {
  const problems = [
    model.modelType !== ModelType.bpe && 'of another type than BPE',
    !model.byteFallback && 'without bytes for unknown characters',
    (model.charsmap.length > 0 || model.removeExtraWhitespaces || model.hasDenormalizer) &&
      'with rules that change texts',
    model.addDummyPrefix && 'that adds a space before each text',
    (model.treatWhitespaceAsSuffix || !model.escapeWhitespaces) && 'with another place for spaces',
  ].filter(Boolean);
  if (problems.length === 0) return;
  throw new ValueError(
    `Expected a vocabulary like Gemma's in "${name}", which GGUF files can hold. Received: one ${problems.join(', ')}.`,
  );
}

/** Adds a vocabulary to a file. */
export function addVocabulary(file: GgufWriter, {tokens, scores, types}: GgufVocabulary): void {
  file
    .text('tokenizer.ggml.model', 'llama')
    .text('tokenizer.ggml.pre', 'default')
    .texts('tokenizer.ggml.tokens', tokens)
    .float32s('tokenizer.ggml.scores', scores)
    .int32s('tokenizer.ggml.token_type', types);
}
