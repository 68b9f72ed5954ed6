/**
 * Fine-tunes of Gemma 3 as their makers publish them: FunctionGemma and MedGemma by the names of Hugging Face, with the
 * files of their folders around small models. Files have the keys of the published ones: configurations of transformers
 * 4.50 and 5, tokens of functions in places of unused ones, tokens beyond the embedding, another chat template.
 */
import * as tf from '@tensorflow/tfjs';
import {convertPreset} from '../../../converters/convert_preset';
import {openCheckpoint} from '../../../src/checkpoints/open_checkpoint';
import {MemoryPreset} from '../../../src/files/memory';
import {presets} from '../../../src/hub/registry';
import {Gemma3CausalLM} from '../../../src/models/gemma3/gemma3_causal_lm';
import {type Gemma3Tokenizer} from '../../../src/models/gemma3/gemma3_tokenizer';
import {applyChatTemplate} from '../../../src/tokenizers/chat_template';
import {GEMMA_TEMPLATE} from '../../../src/tokenizers/gemma_template';
import {fixtureBytes, fixtureJson, fixtureNames} from '../../support/fixtures';
import {server} from '../../support/hub_downloads';

const encode = (value: unknown) => new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));

/** A folder of the fixtures, with other files. */
function folder(fixture: string, files: Readonly<Record<string, unknown>>): Record<string, Uint8Array> {
  const names = fixtureNames(`huggingface/${fixture}`).filter(name => name !== 'expected.json');
  const own = Object.fromEntries(names.map(name => [name, fixtureBytes(`huggingface/${fixture}/${name}`)]));
  return {...own, ...Object.fromEntries(Object.entries(files).map(([name, value]) => [name, encode(value)]))};
}

/** The seven tokens of functions. Google's ids are 46 to 52, of unused pieces; here 6 to 12 are. */
const FUNCTION_TOKENS = [
  '<start_function_declaration>', '<end_function_declaration>', '<start_function_call>', '<end_function_call>',
  '<start_function_response>', '<end_function_response>', '<escape>',
]; // prettier-ignore
const FIRST = 6;
const RESPONSE = FIRST + FUNCTION_TOKENS.indexOf('<start_function_response>');
const ROWS = 1500;

/** A program, in which conversations have a turn of the developer. It must never run. */
const FUNCTION_TEMPLATE = `{%- macro declare(tool) -%}<start_function_declaration>declaration:{{ tool.name }}{description:<escape>
{{- tool.description }}<escape>}<end_function_declaration>{%- endmacro -%}
{{ bos_token }}{%- if tools -%}<start_of_turn>developer
{% for tool in tools %}{{ declare(tool) }}{% endfor %}<end_of_turn>
{% endif -%}{% for turn in messages %}<start_of_turn>{{ turn.role }}
{{ turn.content }}<end_of_turn>
{% endfor %}{{ ''.__class__.__mro__[1].__subclasses__() }}`;

/** `config.json` as transformers 5 wrote it for FunctionGemma, with the sizes of the fixture. */
const FUNCTION_CONFIG = {
  ...fixtureJson<Record<string, unknown>>('huggingface/text/config.json'),
  eos_token_id: [1, RESPONSE],
  query_pre_attn_scalar: 8,
  rope_local_base_freq: 10000,
  rope_parameters: {
    full_attention: {rope_theta: 1000000, rope_type: 'default'},
    sliding_attention: {rope_theta: 10000, rope_type: 'default'},
  },
};

const ADDED = [
  ...FUNCTION_TOKENS.map((content, i) => [FIRST + i, content] as const),
  [68, '<unused12>'] as const,
  // Beyond the embedding: a model for text never sees them.
  [ROWS, '<image_soft_token>'] as const,
  [ROWS + 1, '<end_of_image>'] as const,
];

const functionGemma = () =>
  folder('text', {
    'config.json': FUNCTION_CONFIG,
    'generation_config.json': {
      bos_token_id: 2, cache_implementation: 'hybrid', do_sample: true, eos_token_id: [1, RESPONSE], pad_token_id: 0,
      top_k: 64, top_p: 0.95, transformers_version: '4.57.3',
    }, // prettier-ignore
    'added_tokens.json': {'<end_of_image>': ROWS + 1, '<image_soft_token>': ROWS},
    'tokenizer_config.json': {
      add_bos_token: true, add_eos_token: false, added_tokens_decoder:
        Object.fromEntries(ADDED.map(([id, content]) => [id, {content, special: true}])),
      boi_token: '<start_of_image>', eoi_token: '<end_of_image>', image_token: '<image_soft_token>',
      sfr_token: '<start_function_response>', tokenizer_class: 'GemmaTokenizer', padding_side: 'left',
    }, // prettier-ignore
    'chat_template.jinja': FUNCTION_TEMPLATE,
  });

const CALL =
  '<start_of_turn>developer\nYou can call functions' +
  '<start_function_declaration>declaration:get_weather{description:<escape>The weather in a city<escape>,' +
  'parameters:{properties:{city:{type:<escape>STRING<escape>}},required:[<escape>city<escape>],' +
  'type:<escape>OBJECT<escape>}}<end_function_declaration><end_of_turn>\n' +
  '<start_of_turn>user\nWhat is the weather in Oslo?<end_of_turn>\n<start_of_turn>model\n' +
  '<start_function_call>call:get_weather{city:<escape>Oslo<escape>}<end_function_call><start_function_response>';

/** Ids of control tokens in a text, in their order. */
const controls = (tokenizer: Gemma3Tokenizer, text: string) =>
  (tokenizer.tokenize(text) as number[]).filter(id => id < 20 && id !== 0);

let warn: jest.SpyInstance;
beforeEach(() => (warn = jest.spyOn(console, 'warn').mockImplementation(() => {})));
afterEach(() => warn.mockRestore());

/** What a tokenizer must read of a prompt with functions. */
function expectFunctions(tokenizer: Gemma3Tokenizer): void {
  const [turn, end] = [18, 19];
  const escapes = (count: number) => Array<number>(count).fill(FIRST + 6);
  expect(controls(tokenizer, CALL)).toEqual([
    ...[turn, FIRST, ...escapes(8), FIRST + 1, end, turn, end, turn],
    ...[FIRST + 2, ...escapes(2), FIRST + 3, FIRST + 4],
  ]);
  expect(tokenizer.detokenize(tokenizer.tokenize(CALL) as number[])).toBe(CALL);
}

describe('hf://google/functiongemma-270m-it', () => {
  const NAME = 'hf://google/functiongemma-270m-it';
  beforeEach(() => (server.repositories['google/functiongemma-270m-it'] = functionGemma()));

  test('loads, reads prompts with functions, and stops where a response is due', async () => {
    const lm = await Gemma3CausalLM.fromPreset(NAME);
    expect(warn).not.toHaveBeenCalled();
    expect(lm.backbone.config).toMatchObject({numLayers: 7, globalRopeScalingFactor: 1, queryHeadDimNormalize: true});
    expect(lm.stopTokenIds).toEqual([1, 19, RESPONSE]);
    const {tokenizer} = lm.preprocessor!;
    expectFunctions(tokenizer as Gemma3Tokenizer);
    const answer = await lm.generate(CALL, {maxNewTokens: 4});
    expect(answer).toContain('call:get_weather');
    // Tokens without a row in the embedding are an error, not the row of another one.
    await expect(lm.generate('<end_of_image>', {maxNewTokens: 1})).rejects.toThrow(/1501/);
    lm.dispose();
  });

  test('loads as transformers 5 saves it, with tokenizer.json alone', async () => {
    const json = fixtureJson<{
      model: {vocab: Record<string, number>};
      added_tokens: {id: number; content: string}[];
    }>('huggingface/shards/tokenizer.json');
    const renamed = new Map<number, string>(ADDED);
    json.model.vocab = Object.fromEntries(
      Object.entries(json.model.vocab).map(([text, id]) => [renamed.get(id) ?? text, id]),
    );
    const kept = json.added_tokens.filter(({id}) => !renamed.has(id));
    json.added_tokens = [...kept, ...ADDED.map(([id, content]) => ({...kept[0]!, id, content}))];
    const {'tokenizer.model': _, 'added_tokens.json': __, ...files} = functionGemma();
    const settings = {backend: 'tokenizers', sfr_token: '<start_function_response>', tokenizer_class: 'GemmaTokenizer'};
    server.repositories['google/functiongemma-270m-it'] = {
      ...files,
      'tokenizer.json': encode(json),
      'tokenizer_config.json': encode(settings),
    };
    const lm = await Gemma3CausalLM.fromPreset(NAME);
    expect(warn).not.toHaveBeenCalled();
    expectFunctions(lm.preprocessor!.tokenizer as Gemma3Tokenizer);
    expect(lm.stopTokenIds).toEqual([1, 19, RESPONSE]);
    lm.dispose();
  });

  test('its chat template is not run: conversations are written as those of Gemma, with a warning', async () => {
    const lm = await Gemma3CausalLM.fromPreset(NAME);
    const question = {role: 'user', content: 'the river'} as const;
    const {tokens} = await lm.preprocessor!.promptTokens([question]);
    expect(lm.preprocessor!.tokenizer.detokenize(tokens[0]!)).toBe(
      applyChatTemplate([question], {addGenerationPrompt: true}),
    );
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]![0]).toContain('chat_template.jinja');
    lm.dispose();
  });

  test('keeps tokens, ends and template in every format', async () => {
    const [keras, huggingFace, gguf] = [new MemoryPreset(), new MemoryPreset(), new MemoryPreset()];
    await convertPreset(NAME, keras, {to: 'keras'});
    await convertPreset(NAME, huggingFace, {to: 'huggingface'});
    await convertPreset(NAME, gguf, {to: 'gguf'});
    for (const preset of [keras, huggingFace, gguf]) {
      const lm = await Gemma3CausalLM.fromPreset(preset);
      expectFunctions(lm.preprocessor!.tokenizer as Gemma3Tokenizer);
      expect([...lm.stopTokenIds!].sort((a, b) => a - b)).toEqual([1, RESPONSE, 19]);
      lm.dispose();
    }
    for (const preset of [huggingFace, gguf]) {
      const checkpoint = await openCheckpoint(preset);
      expect(await checkpoint.chatTemplate!()).toBe(FUNCTION_TEMPLATE);
      await checkpoint.close();
    }
    // Where it is not kept, it is said once more.
    await convertPreset(keras, new MemoryPreset(), {to: 'gguf'});
    expect(warn.mock.calls.flat().join('\n')).toContain("has a chat template other than Gemma's");
  });
});

describe('hf://google/medgemma-4b-it', () => {
  const NAME = 'hf://google/medgemma-4b-it';

  test('loads as transformers 4.50 saved it: text and images', async () => {
    const {eos_token_id: _, ...published} = fixtureJson<Record<string, unknown>>('huggingface/vision_4.51/config.json');
    server.repositories['google/medgemma-4b-it'] = folder('vision_4.51', {
      'config.json': {...published, eos_token_id: [1, 19]},
      'generation_config.json': {
        bos_token_id: 2, cache_implementation: 'hybrid', do_sample: true, eos_token_id: [1, 19], pad_token_id: 0,
        top_k: 64, top_p: 0.95,
      }, // prettier-ignore
      'added_tokens.json': {'<image_soft_token>': ROWS},
      'processor_config.json': {image_seq_length: 4, processor_class: 'Gemma3Processor'},
      'chat_template.json': {chat_template: GEMMA_TEMPLATE},
      'special_tokens_map.json': {boi_token: '<start_of_image>', eoi_token: '<end_of_image>'},
    });
    const lm = await Gemma3CausalLM.fromPreset(NAME, {dtype: 'float32'});
    expect(warn).not.toHaveBeenCalled();
    expect(lm.stopTokenIds).toBeNull();
    expect(lm.preprocessor!.tokenizer).toMatchObject({hasVisionTokens: true, foreignChatTemplate: null});
    expect(lm.preprocessor!.imageConverter).toMatchObject({imageSize: [16, 16]});
    const expected = fixtureJson<{ids: number[]; hidden: number[]}>('huggingface/vision_4.51/expected.json');
    const length = expected.ids.length;
    const inputs = {
      token_ids: tf.tensor2d([expected.ids], [1, length], 'int32'),
      padding_mask: tf.ones([1, length], 'int32'),
      images: tf.zeros([1, 0, 16, 16, 3]),
      vision_indices: tf.zeros([1, 0], 'int32'),
      vision_mask: tf.zeros([1, length], 'int32'),
    };
    const hidden = lm.backbone.predict(inputs) as tf.Tensor;
    expect(hidden.dataSync()).toBeAllClose(expected.hidden, {atol: 1e-4, rtol: 1e-4});
    const picture = tf.fill([16, 16, 3], 200, 'int32');
    const message = {
      role: 'user',
      content: [
        {type: 'image', image: picture},
        {type: 'text', text: 'What is it?'},
      ],
    };
    expect(typeof (await lm.generate([message] as never, {maxNewTokens: 3}))).toBe('string');
    tf.dispose([inputs, hidden, picture]);
    lm.dispose();
  });

  test('the 27B for text is of the registry as of Hugging Face', async () => {
    const {config} = presets['medgemma_instruct_27b_text']! as unknown as {config: Record<string, unknown>};
    const source = new MemoryPreset([
      [
        'config.json',
        encode({
          architectures: ['Gemma3ForCausalLM'], attention_bias: false, attention_dropout: 0, attn_logit_softcapping: null,
          bos_token_id: 2, cache_implementation: 'hybrid', eos_token_id: [1, 106], final_logit_softcapping: null,
          head_dim: 128, hidden_activation: 'gelu_pytorch_tanh', hidden_size: 5376, initializer_range: 0.02,
          intermediate_size: 21504, max_position_embeddings: 131072, model_type: 'gemma3_text', num_attention_heads: 32,
          num_hidden_layers: 62, num_key_value_heads: 16, pad_token_id: 0, query_pre_attn_scalar: 168,
          rms_norm_eps: 1e-6, rope_local_base_freq: 10000, rope_scaling: {factor: 8, rope_type: 'linear'},
          rope_theta: 1000000, sliding_window: 1024, sliding_window_pattern: 6, torch_dtype: 'bfloat16',
          transformers_version: '4.52.0.dev0', use_cache: true, vocab_size: 262144,
        }), // prettier-ignore
      ],
      ['model.safetensors', Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d)],
    ]);
    const checkpoint = await openCheckpoint(source);
    const {config: ours} = (await checkpoint.config('backbone'))!;
    await checkpoint.close();
    expect(warn).not.toHaveBeenCalled();
    const {name: _, dtype: __, ...architecture} = config;
    const {dtype, ...found} = ours;
    expect(found).toMatchObject(architecture);
    expect(dtype).toMatchObject({config: {name: 'bfloat16'}});
  });
});
