/** GGUF files that cannot be used: errors that name the file, the key or the tensor. */
import {Gemma3Backbone, Gemma3CausalLM, Gemma3Tokenizer} from '../../../src';
import {ValueType} from '../../../src/formats/gguf';
import {MemoryPreset} from '../../../src/public/files';
import {f32, ggufBytes, info, text, u32, u64, value} from '../../support/gguf_bytes';
import {fixture, fixtureBytes} from '../../support/fixtures';

const string = (key: string, content: string) => value(key, ValueType.string, text(content));
const uint = (key: string, content: number) => value(key, ValueType.uint32, u32(content));
const number = (key: string, content: number) => value(key, ValueType.float32, f32(content));
const strings = (key: string, all: string[]) =>
  value(key, ValueType.array, u32(ValueType.string), u64(all.length), ...all.map(text));
const numbers = (key: string, type: number, all: number[]) =>
  value(key, ValueType.array, u32(type), u64(all.length), ...all.map(type === ValueType.float32 ? f32 : u32));

/** Metadata of a model with one block. */
const METADATA: Record<string, Uint8Array> = {
  architecture: string('general.architecture', 'gemma3'),
  blocks: uint('gemma3.block_count', 1),
  width: uint('gemma3.embedding_length', 32),
  inner: uint('gemma3.feed_forward_length', 32),
  heads: uint('gemma3.attention.head_count', 1),
  head: uint('gemma3.attention.key_length', 32),
  window: uint('gemma3.attention.sliding_window', 4),
};
const EMBEDDING = info('token_embd.weight', [32, 300], 0, 0);

interface Changes {
  metadata?: Record<string, Uint8Array | undefined>;
  infos?: Uint8Array[];
  size?: number;
}
function model({metadata = {}, infos = [EMBEDDING], size = 38_400}: Changes = {}): MemoryPreset {
  const values = Object.values({...METADATA, ...metadata}).filter(one => one !== undefined);
  return new MemoryPreset([['model.gguf', ggufBytes({values, infos, data: new Uint8Array(size)})]]);
}

const config = (changes: Changes) => Gemma3Backbone.fromPreset(model(changes), {loadWeights: false});

test.each<[string, Changes, RegExp]>([
  [
    'another architecture',
    {metadata: {architecture: string('general.architecture', 'llama')}},
    /of the architecture "gemma3" or "gemma-embedding"\. Received: "memory\/model\.gguf" of "llama", which is another/,
  ],
  [
    'a vision encoder alone',
    {metadata: {architecture: string('general.architecture', 'clip')}},
    /of "clip", which is a vision encoder\. Pass the file of the language model/,
  ],
  ['no architecture', {metadata: {architecture: undefined}}, /a text as "general\.architecture".* a file without it/],
  ['no number of blocks', {metadata: {blocks: undefined}}, /"gemma3\.block_count" in .* Received: a file without it/],
  [
    'a text for a number',
    {metadata: {width: string('gemma3.embedding_length', 'x')}},
    /"gemma3\.embedding_length".*"x"/,
  ],
  [
    'blocks of different widths',
    {metadata: {inner: numbers('gemma3.feed_forward_length', ValueType.uint32, [32, 64])}},
    /the same for all blocks as "gemma3\.feed_forward_length".*\[32,64\]/,
  ],
  [
    'another wavelength',
    {metadata: {rope: number('gemma3.rope.freq_base', 5)}},
    /Expected 1000000 as "gemma3\.rope\.freq_base".*Received: 5/,
  ],
  [
    'another kind of RoPE',
    {metadata: {rope: string('gemma3.rope.scaling.type', 'yarn')}},
    /"none" or "linear".*"yarn"/,
  ],
  [
    'another pattern of windows',
    {metadata: {pattern: uint('gemma3.attention.sliding_window_pattern', 2)}},
    /Expected 6, .* as "gemma3\.attention\.sliding_window_pattern".*Received: 2/,
  ],
  ['another scale', {metadata: {scale: number('gemma3.attention.scale', 0.5)}}, /"gemma3\.attention\.scale".*0\.5/],
  [
    'more tokens than rows',
    {
      infos: [info('token_embd.weight', [32, 4], 0, 0)],
      metadata: {tokens: strings('tokenizer.ggml.tokens', [...'abcde'])},
    },
    /at most 4 texts, one for each row of token_embd\.weight, as "tokenizer\.ggml\.tokens".*a list of 5 texts/,
  ],
  ['no embedding', {infos: [], size: 0}, /a tensor "token_embd\.weight" with 2 axes.* a file without it/],
])('%s', async (_, changes, message) => {
  await expect(config(changes)).rejects.toThrow(message);
});

test('missing, superfluous, misshapen and unreadable tensors are named with the shapes of the file', async () => {
  const infos = [
    info('token_embd.weight', [256, 4], 16, 0),
    info('blk.0.attn_norm.weight', [16], 0, 288),
    info('rope_freqs.weight', [8], 0, 352),
  ];
  const metadata = {width: uint('gemma3.embedding_length', 256)};
  const error: Error = (await Gemma3Backbone.fromPreset(model({infos, metadata})).catch(
    (reason: unknown) => reason as Error,
  )) as Error;
  expect(error.message).toMatch(
    /"token_embd\.weight" in model\.gguf has the type IQ2_XXS, expected F32, F16, BF16, Q4_0/,
  );
  expect(error.message).toMatch(/"blk\.0\.attn_norm\.weight" in model\.gguf has shape \[16\], expected \[256\]/);
  expect(error.message).toMatch(/"blk\.0\.attn_q\.weight" of shape \[32,256\] is missing from model\.gguf/);
});

/** All tensors of a model with one block in F32, and a head if one is given. Values are 1, or as given. */
function whole(head?: {columns: number; value: number}): MemoryPreset {
  const block = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'];
  const norms = ['attn_norm', 'attn_q_norm', 'attn_k_norm', 'post_attention_norm', 'ffn_norm', 'post_ffw_norm'];
  const shapes: [string, number[]][] = [
    ['token_embd', [32, 4]],
    ['output_norm', [32]],
    ...block.map((name): [string, number[]] => [`blk.0.${name}`, [32, 32]]),
    ...norms.map((name): [string, number[]] => [`blk.0.${name}`, [32]]),
    ...(head ? [['output', [32, head.columns]] as [string, number[]]] : []),
  ];
  let at = 0;
  const infos = shapes.map(([name, shape]) => {
    const entry = info(`${name}.weight`, shape, 0, at);
    at += 4 * shape.reduce((x, y) => x * y, 1);
    return entry;
  });
  const data = new Float32Array(at / 4).fill(1);
  if (head) data[data.length - 1] = head.value;
  const values = Object.values(METADATA);
  const bytes = ggufBytes({values, infos, data: new Uint8Array(data.buffer)});
  return new MemoryPreset([['model.gguf', bytes]]);
}

test('a head that equals the embedding is left out, and another one is refused', async () => {
  for (const preset of [whole(), whole({columns: 4, value: 1})]) {
    const backbone = await Gemma3Backbone.fromPreset(preset);
    expect(backbone.countParams()).toBe(4 * 32 + 7 * 32 * 32 + 7 * 32);
    backbone.dispose();
  }
  const other = Gemma3Backbone.fromPreset(whole({columns: 4, value: 2}));
  await expect(other).rejects.toThrow(
    /Expected "output\.weight" in model\.gguf of "memory\/model\.gguf" to equal "token_embd\.weight".* Received 2 and 1 as value 127/,
  );
  await expect(Gemma3Backbone.fromPreset(whole({columns: 5, value: 1}))).rejects.toThrow(
    /shapes \[5,32\] and \[4,32\]/,
  );
});

const bytes = Array.from({length: 256}, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
const ids = ['<pad>', '<eos>', '<bos>', '<unk>', 'a', ...bytes];
const vocabulary = {
  kind: string('tokenizer.ggml.model', 'llama'),
  tokens: strings('tokenizer.ggml.tokens', ids),
  scores: numbers('tokenizer.ggml.scores', ValueType.float32, [0, 0, 0, 0, -1, ...bytes.map(() => 0)]),
  types: numbers('tokenizer.ggml.token_type', ValueType.int32, [3, 3, 3, 2, 1, ...bytes.map(() => 6)]),
};

test('a vocabulary that is whole', async () => {
  const tokenizer = await Gemma3Tokenizer.fromPreset(model({metadata: vocabulary}));
  expect(tokenizer.tokenize('aa')).toEqual([4, 4]);
});

test.each<[string, Record<string, Uint8Array | undefined>, RegExp]>([
  ['none', {kind: undefined}, /a text as "tokenizer\.ggml\.model" in "memory\/model\.gguf"/],
  ['another kind', {kind: string('tokenizer.ggml.model', 'gpt2')}, /a vocabulary of SentencePiece.*Received: "gpt2"/],
  ['no scores', {scores: undefined}, /a list of numbers as "tokenizer\.ggml\.scores"/],
  [
    'too few types',
    {types: numbers('tokenizer.ggml.token_type', 5, [3])},
    /261 numbers, one for each token, as "tokenizer\.ggml\.token_type"/,
  ],
  [
    'an unknown type',
    {types: numbers('tokenizer.ggml.token_type', 5, [3, 3, 3, 2, 9, ...bytes.map(() => 6)])},
    /types from 1 to 6, which token 4 has not/,
  ],
  [
    'an empty token',
    {tokens: strings('tokenizer.ggml.tokens', [...ids.slice(0, 4), '', ...bytes])},
    /texts that are not empty, which token 4 is/,
  ],
  [
    'no <bos>',
    {tokens: strings('tokenizer.ggml.tokens', ['<pad>', '<eos>', 'b', '<unk>', 'a', ...bytes])},
    /a vocabulary with "<bos>"/,
  ],
])('vocabularies: %s', async (_, changes, message) => {
  await expect(Gemma3Tokenizer.fromPreset(model({metadata: {...vocabulary, ...changes}}))).rejects.toThrow(message);
});

test('templates and stop tokens of other models are told to the task', async () => {
  const metadata = {
    ...vocabulary,
    template: string('tokenizer.chat_template', '{{ "[INST]" }}'),
    eos: uint('tokenizer.ggml.eos_token_id', 4),
  };
  const lm = await Gemma3CausalLM.fromPreset(model({metadata}), {loadWeights: false});
  expect(lm.stopTokenIds).toEqual([1, 4]);
  expect(lm.preprocessor!.tokenizer.foreignChatTemplate).toBe('tokenizer.chat_template');
  lm.dispose();
  const wrong = {...vocabulary, eos: uint('tokenizer.ggml.eos_token_id', 1000)};
  const loading = Gemma3CausalLM.fromPreset(model({metadata: wrong}), {loadWeights: false});
  await expect(loading).rejects.toThrow(/an id below 261 as "tokenizer\.ggml\.eos_token_id"/);
});

test('several models, a missing part, a file that is no GGUF', async () => {
  const bytes = fixtureBytes('gguf/text.gguf');
  const two = new MemoryPreset([
    ['a.gguf', bytes],
    ['b.gguf', bytes],
  ]);
  await expect(Gemma3CausalLM.fromPreset(two)).rejects.toThrow(
    /one GGUF file in "memory"\. Received: a\.gguf, b\.gguf/,
  );
  const part = 'parts-00001-of-00003.gguf';
  const alone = new MemoryPreset([[part, fixtureBytes(`gguf/${part}`)]]);
  await expect(Gemma3CausalLM.fromPreset(alone)).rejects.toThrow(
    /all 3 parts of .* a folder without "parts-00002-of-00003/,
  );
  const renamed = new MemoryPreset([['model.gguf', fixtureBytes(`gguf/${part}`)]]);
  await expect(Gemma3CausalLM.fromPreset(renamed)).rejects.toThrow(/the first of 3 files/);
  await expect(Gemma3CausalLM.fromPreset(new File(['hello'], 'x.gguf'))).rejects.toThrow(/no|Expected/);
  await expect(Gemma3CausalLM.fromPreset(fixture('gguf/missing.gguf'))).rejects.toThrow(/Expected a preset/);
});
