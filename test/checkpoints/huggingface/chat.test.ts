/** Tokens that end a text, and chat templates, of Hugging Face folders. */
import {cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {type JsonObject} from '../../../src/base/json';
import {Gemma3CausalLM} from '../../../src/models/gemma3/gemma3_causal_lm';
import {Gemma3Tokenizer} from '../../../src/models/gemma3/gemma3_tokenizer';
import {applyChatTemplate} from '../../../src/tokenizers/chat_template';
import {fixture} from '../../support/fixtures';

const folders: string[] = [];
afterAll(() => folders.forEach(folder => rmSync(folder, {recursive: true})));

function copyOf(files: Record<string, unknown>): string {
  const folder = mkdtempSync(join(tmpdir(), 'hf-'));
  folders.push(folder);
  cpSync(fixture('huggingface/text'), folder, {recursive: true});
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return folder;
}

describe('tokens that end a text', () => {
  test('are the usual ones if generation_config.json lists them', async () => {
    const lm = await Gemma3CausalLM.fromPreset(copyOf({}), {loadWeights: false});
    expect(lm.stopTokenIds).toBeNull();
    lm.dispose();
  });

  test.each<[string, Record<string, unknown>, number[]]>([
    ['of generation_config.json', {'generation_config.json': {eos_token_id: [1, 7]}}, [1, 19, 7]],
    ['of one token', {'generation_config.json': {eos_token_id: 7}}, [1, 19, 7]],
  ])('are the usual ones and those %s', async (_, files, ids) => {
    const lm = await Gemma3CausalLM.fromPreset(copyOf(files));
    expect(lm.stopTokenIds).toEqual(ids);
    // Every token ends the text: only one is generated.
    const folder = copyOf({'generation_config.json': {eos_token_id: Array.from({length: 1500}, (_, id) => id)}});
    const ending = await Gemma3CausalLM.fromPreset(folder);
    let tokens = 0;
    await ending.generate('the river', {maxLength: 24, onFinish: end => (tokens = end.usage.newTokens)});
    expect(tokens).toBe(1);
    lm.dispose();
    ending.dispose();
  });

  test('survive saving, loading and copying', async () => {
    const lm = await Gemma3CausalLM.fromPreset(copyOf({'generation_config.json': {eos_token_id: [1, 7]}}));
    const target = mkdtempSync(join(tmpdir(), 'saved-'));
    folders.push(target);
    await lm.saveToPreset(target);
    const task = JSON.parse(readFileSync(join(target, 'task.json'), 'utf8')) as JsonObject;
    expect(task.stop_token_ids).toEqual([1, 19, 7]);
    const loaded = await Gemma3CausalLM.fromPreset(target);
    const copy = loaded.clone();
    expect([loaded.stopTokenIds, copy.stopTokenIds]).toEqual([
      [1, 19, 7],
      [1, 19, 7],
    ]);
    for (const model of [lm, loaded, copy]) model.dispose();
  });
});

/** With the texts of Google's template in their order, and `%s` for the end of a system text. */
const TEMPLATE = `{{ bos_token }}
{%- set ruled = messages[0]['role'] == 'system' -%}
{%- set rules = messages[0]['content'] + '%s' if ruled and messages[0]['content'] is string
    else messages[0]['content'][0]['text'] + '%s' if ruled else "" -%}
{%- for turn in (messages[1:] if ruled else messages) -%}
    {%- if (turn['role'] == 'user') == (loop.index0 % 2 == 1) -%}{{ raise_exception('Take turns.') }}{%- endif -%}
    {%- set name = turn['role'] if turn['role'] != 'assistant' else 'model' -%}
    {{- '<start_of_turn>' + name + '\\n' + (rules if loop.first else "") -}}
    {%- if turn['content'] is string -%}{{- turn['content'] | trim -}}
    {%- else -%}
        {%- for part in turn['content'] -%}
            {%- if part['type'] == 'image' -%}{{- '<start_of_image>' -}}
            {%- elif part['type'] == 'text' -%}{{- part['text'] | trim -}}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
`;
const GEMMA = TEMPLATE.replaceAll('%s', '\\n\\n');
const OTHER = '{% for message in messages %}[INST] {{ message.content }} [/INST]{% endfor %}';

describe('a chat template', () => {
  test.each<[string, Record<string, unknown>, string | null]>([
    ['none', {}, null],
    ['Gemma in tokenizer_config.json', {'tokenizer_config.json': {chat_template: GEMMA}}, null],
    [
      'Gemma with line ends in its texts',
      {'tokenizer_config.json': {chat_template: GEMMA.replaceAll('\\n', '\n')}},
      null,
    ],
    ['Gemma on one line', {'chat_template.jinja': GEMMA.replace(/\n\s*/g, ' ')}, null],
    ['another system text', {'chat_template.jinja': TEMPLATE.replaceAll('%s', '\\n')}, 'chat_template.jinja'],
    ['another one', {'tokenizer_config.json': {chat_template: OTHER}}, 'tokenizer_config.json'],
    ['the one of the processor', {'chat_template.json': {chat_template: OTHER}}, 'chat_template.json'],
    [
      'the default one of several',
      {
        'tokenizer_config.json': {
          chat_template: [
            {name: 'tools', template: OTHER},
            {name: 'default', template: GEMMA},
          ],
        },
      },
      null,
    ],
  ])('%s', async (_, files, expected) => {
    const tokenizer = await Gemma3Tokenizer.fromPreset(copyOf(files));
    expect(tokenizer.foreignChatTemplate).toBe(expected);
  });

  test("that is not Gemma's warns once when a conversation is written", async () => {
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
    const lm = await Gemma3CausalLM.fromPreset(copyOf({'chat_template.jinja': OTHER}));
    expect(warn).not.toHaveBeenCalled();
    const question = {role: 'user', content: 'the river'} as const;
    const prompts = await lm.preprocessor!.promptTokens([question]);
    expect(lm.preprocessor!.tokenizer.detokenize(prompts.tokens[0]!)).toBe(
      applyChatTemplate([question], {addGenerationPrompt: true}),
    );
    const chat = lm.startChat({maxLength: 64});
    chat.dispose();
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]![0]).toContain('The chat template in chat_template.jinja is not the one of Gemma 3.');
    warn.mockRestore();
    lm.dispose();
  });
});
