/** Files of the fixtures with the first tokens of their vocabularies: reading all of them takes most of the time. */
import {protoOfTokenizerJson} from '../../src/tokenizers/tokenizer_json';
import {type Json} from '../../src/base/json';
import {fixtureBytes, fixtureJson} from '../support/fixtures';

const TOKENS = 400;

function shortTokenizer(): Uint8Array {
  interface Tokenizer {
    model: {vocab: Record<string, number>; merges: (string | string[])[]};
    added_tokens: {id: number}[];
  }
  const json = fixtureJson<Tokenizer>('huggingface/shards/tokenizer.json');
  const {model} = json;
  const vocab = Object.fromEntries(Object.entries(model.vocab).filter(([, id]) => id < TOKENS));
  const added = json.added_tokens.filter(({id}) => id < TOKENS);
  const isThere = (merge: string | string[]) => {
    const parts = typeof merge === 'string' ? merge.split(' ') : merge;
    return [...parts, parts.join('')].every(piece => Object.hasOwn(vocab, piece));
  };
  const merges = model.merges.filter(isThere);
  return new TextEncoder().encode(JSON.stringify({...json, added_tokens: added, model: {...model, vocab, merges}}));
}

/** A `tokenizer.json`. */
export const shortTokenizerJson = shortTokenizer();

/** The same vocabulary as a SentencePiece model. */
export const shortVocabulary = protoOfTokenizerJson(
  JSON.parse(new TextDecoder().decode(shortTokenizerJson)) as Json,
  'short',
);

/** Bytes of a value in GGUF, by its type. */
const SIZES: Readonly<Record<number, number>> = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8};
const [STRING, ARRAY] = [8, 9];
const ALIGNMENT = 32;
/** Bytes of the magic number, the version and two counts. */
const HEAD = 24;

/** A GGUF file: its metadata in the order and the types of the fixture, and its tensors. */
export function shortGguf(name: string): Uint8Array {
  const bytes = Buffer.from(fixtureBytes(`gguf/${name}`));
  let at = HEAD;
  const number64 = () => Number(bytes.readBigUInt64LE((at += 8) - 8));
  const number32 = () => bytes.readUInt32LE((at += 4) - 4);
  const text = () => {
    const length = number64();
    return bytes.toString('utf8', at, (at += length));
  };
  const written = [bytes.subarray(0, HEAD)];

  for (let values = Number(bytes.readBigUInt64LE(16)); values > 0; values--) {
    const start = at;
    text();
    const type = number32();
    if (type === STRING) text();
    else if (type !== ARRAY) at += SIZES[type]!;
    else {
      const [items, counted, count] = [number32(), at, number64()];
      const kept = Math.min(count, TOKENS);
      const skip = (some: number) => {
        if (items !== STRING) at += some * SIZES[items]!;
        else for (let i = 0; i < some; i++) text();
      };
      skip(kept);
      const value = Buffer.from(bytes.subarray(start, at));
      value.writeBigUInt64LE(BigInt(kept), counted - start);
      written.push(value);
      skip(count - kept);
      continue;
    }
    written.push(bytes.subarray(start, at));
  }

  const tensors = Array.from({length: Number(bytes.readBigUInt64LE(8))}, () => {
    const start = at;
    const isEmbedding = text() === 'token_embd.weight';
    const shape = Array.from({length: number32()}, number64);
    at += 4;
    const place = number64();
    return {head: Buffer.from(bytes.subarray(start, at)), rows: isEmbedding ? shape.at(-1)! : 0, place};
  });
  const data = bytes.subarray(Math.ceil(at / ALIGNMENT) * ALIGNMENT);
  const pieces: Buffer[] = [];
  let place = 0;
  for (const [i, tensor] of tensors.entries()) {
    const {head, rows} = tensor;
    let values = data.subarray(tensor.place, tensors[i + 1]?.place);
    if (rows > 0) {
      values = values.subarray(0, Math.floor(values.length / rows) * TOKENS);
      // The last dimension, before the type and the place.
      head.writeBigUInt64LE(BigInt(TOKENS), head.length - 20);
    }
    head.writeBigUInt64LE(BigInt(place), head.length - 8);
    const padding = Buffer.alloc(-values.length & (ALIGNMENT - 1));
    pieces.push(values, padding);
    place += values.length + padding.length;
    written.push(head);
  }
  const length = written.reduce((sum, piece) => sum + piece.length, 0);
  return Uint8Array.from(Buffer.concat([...written, Buffer.alloc(-length & (ALIGNMENT - 1)), ...pieces]));
}
