/** The vocabulary of the tokenizer in KerasHub's own unit tests of Gemma 3: whole words, and the special tokens. */
import {Gemma3Tokenizer} from '../../src';
import {concatenate, field, numberField} from './tokenizer_fixtures';

const SPECIAL = ['<pad>', '<bos>', '<eos>', '<unk>', '<start_of_image>', '<end_of_image>'];
const TURNS = ['<start_of_turn>', '<end_of_turn>', '<img>'];
const WORDS = ['the', 'brown', 'earth', 'fox', 'is', 'quick', 'round'];

/** Kinds of SentencePiece's pieces. */
const KIND = {normal: 1, unknown: 2, control: 3, userDefined: 4};

function piece(text: string, id: number): Uint8Array {
  const kind = id === 3 ? KIND.unknown : id < 3 ? KIND.control : WORDS.includes(text) ? KIND.normal : KIND.userDefined;
  const written = kind === KIND.normal ? `\u2581${text}` : text;
  return field(1, concatenate(field(1, written), numberField(3, kind)));
}

/** A tokenizer that gives each word and each special token the id it has in KerasHub's unit tests. */
export function kerasHubTestTokenizer(): Gemma3Tokenizer {
  const pieces = [...SPECIAL, ...TURNS, ...WORDS, '\n\n'].map(piece);
  const unigram = field(2, numberField(3, 1));
  // SentencePiece's own id of padding is none unless the model says so: unk_id, bos_id, eos_id, pad_id.
  const ids = field(2, concatenate(...[3, 1, 2, 0].map((id, i) => numberField(40 + i, id))));
  const normalizer = field(3, field(1, 'identity'));
  return new Gemma3Tokenizer({proto: concatenate(...pieces, unigram, ids, normalizer)});
}
