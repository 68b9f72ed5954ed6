/** Files of training examples: their formats, and errors that name the line. */
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {readExamples} from '../../cli/support/training_data';

const folder = mkdtempSync(join(tmpdir(), 'gemma3-data-'));
afterAll(() => rmSync(folder, {recursive: true}));

async function read(text: string) {
  const path = join(folder, 'data');
  writeFileSync(path, text);
  const {examples, description} = await readExamples(path);
  return {
    examples: examples.map(({line, prompt, response, images, templated}) => [
      ...[line, prompt, response],
      ...(images.length ? [images.map(image => image.replace(folder, '.'))] : []),
      ...(templated ? ['templated'] : []),
    ]),
    description: description.replace(folder, '.'),
  };
}

/** In Gemma's chat template, as Google's tokenizer_config.json writes it. */
const user = (text: string) => `<start_of_turn>user\n${text}<end_of_turn>\n<start_of_turn>model\n`;
const answer = (text: string) => `${text}<end_of_turn>`;

describe('reads', () => {
  test.each<[string, string, unknown[][], string]>([
    [
      'JSON Lines',
      '\n{"prompt": "a", "response": "b"}\r\n\n{"prompt": "", "completion": "d", "image": "x.png"}\n',
      [
        [2, 'a', 'b'],
        [4, '', 'd', ['./x.png']],
      ],
      '2 examples in "./data": JSON Lines, prompt and response',
    ],
    [
      'several responses, and lists as KerasHub has them',
      '{"prompt": "a", "responses": ["b", "c"]}\n{"prompts": ["d", "e"], "responses": ["f", "g"]}',
      [
        [1, 'a', 'b'],
        [1, 'a', 'c'],
        [2, 'd', 'f'],
        [2, 'e', 'g'],
      ],
      '4 examples in "./data": JSON Lines, prompt and response',
    ],
    [
      'a JSON array',
      '[\n  {"prompt": "a]\\"", "response": "b"},\n  {\n    "prompt": "c", "response": "d"\n  }\n]\n',
      [
        [2, 'a]"', 'b'],
        [3, 'c', 'd'],
      ],
      '2 examples in "./data": a JSON array, prompt and response',
    ],
    [
      'an array on one line',
      '[{"prompt": "a", "response": "b"}]',
      [[1, 'a', 'b']],
      '1 example in "./data": a JSON array, prompt and response',
    ],
    [
      'one object over several lines',
      '{\n"prompt": "a",\n"response": "b"}',
      [[1, 'a', 'b']],
      '1 example in "./data": one JSON object, prompt and response',
    ],
    [
      'messages: one example for each answer',
      JSON.stringify({
        messages: [
          {role: 'system', content: 'Be brief.'},
          {role: 'user', content: 'Hi'},
          {role: 'assistant', content: ' Hello. '},
          {
            role: 'user',
            content: [
              {type: 'text', text: 'What is it?'},
              {type: 'image', image: 'y.png'},
            ],
          },
          {role: 'model', content: 'A cat.'},
        ],
      }),
      [
        [1, user('Be brief.\n\nHi'), answer('Hello.'), 'templated'],
        [
          ...[
            1,
            `${user('Be brief.\n\nHi')}Hello.<end_of_turn>\n${user('What is it?<start_of_image>')}`,
            answer('A cat.'),
          ],
          ...[['./y.png'], 'templated'],
        ],
      ],
      '2 examples in "./data": JSON Lines, messages',
    ],
    [
      'instructions, with and without input',
      '{"instruction": "Add.", "input": "1 2", "output": "3"}\n{"instruction": "Say hi.", "input": "", "output": "Hi"}',
      [
        [1, user('Add.\n\n1 2'), answer('3'), 'templated'],
        [2, user('Say hi.'), answer('Hi'), 'templated'],
      ],
      '2 examples in "./data": JSON Lines, instruction and output',
    ],
    [
      'CSV with quotes, line breaks and a byte order mark',
      '\ufeffprompt,response\r\na,"b, ""c"""\r\n"two\nlines",d\r\n\r\n,e\r\n',
      [
        [2, 'a', 'b, "c"'],
        [3, 'two\nlines', 'd'],
        [6, '', 'e'],
      ],
      '3 examples in "./data": CSV, separated by commas, prompt and response',
    ],
    [
      'CSV with semicolons and images',
      '"prompt";"completion";"image"\na, b;c;x.png\nd;e;\n',
      [
        [2, 'a, b', 'c', ['./x.png']],
        [3, 'd', 'e'],
      ],
      '2 examples in "./data": CSV, separated by semicolons, prompt and response',
    ],
    [
      'tabs, with instructions',
      'output\tinstruction\tinput\nHi\tSay hi.\t\n',
      [[2, user('Say hi.'), answer('Hi'), 'templated']],
      '1 example in "./data": CSV, separated by tabs, instruction and output',
    ],
    [
      'messages in a column',
      'messages\n"[{""role"": ""user"", ""content"": ""Hi""}, {""role"": ""assistant"", ""content"": ""Ho""}]"\n',
      [[2, user('Hi'), answer('Ho'), 'templated']],
      '1 example in "./data": CSV, separated by commas, messages',
    ],
  ])('%s', async (_, text, examples, description) => {
    expect(await read(text)).toEqual({examples, description});
  });
});

describe('refuses', () => {
  test.each<[string, string, RegExp]>([
    [
      'text without a form',
      'Once upon a time',
      /in line 1 of .* Received: Once upon a time, which is not JSON: .*A CSV file has column names/,
    ],
    [
      'JSON after a broken line',
      '{"prompt": "a", "response": "b"}\n{"prompt": "a"',
      /in line 2 of .*which is not JSON/,
    ],
    [
      'a broken element of an array',
      '[{"prompt": "a", "response": "b"},\n{"prompt": a}]',
      /in line 2 of .* Received: \{"prompt": a\}, which is not JSON/,
    ],
    ['an array without an end', '[{"prompt": "a", "response": "b"}\n', /Received: an array without its end, \]\./],
    [
      'an array with a comma at the end',
      '[{"prompt": "a", "response": "b"},\n]',
      /in line 2 .* no value before a comma or the end/,
    ],
    ['text after an array', '[{"prompt": "a", "response": "b"}]\n[]', /in line 2 .*\[\] after the end of the array/],
    ['an empty array', '[ ]', /Received: an empty array/],
    ['an element that is no object', '[\n1]', /in line 2 of .* Received: 1\./],
    [
      'two names of an answer',
      '{"prompt": "a", "response": "b", "completion": "c"}',
      /both "response" and "completion"/,
    ],
    ['lists of different lengths', '{"prompts": ["a", "b"], "responses": ["c"]}', /2 prompts and 1 responses/],
    ['a list as a prompt', '{"prompt": ["a"], "response": "b"}', /a "prompt" that is not a string/],
    [
      'an unknown column',
      'id,prompt,response\n1,a,b',
      /in line 2 .*the column "id", which is not one of prompt, .*Remove or rename it/,
    ],
    ['a row with too many cells', 'prompt,response\na,b\nc,d,e\n', /Received in line 3: /],
    ['a quote without its end', 'prompt,response\n"a,b\n', /Received in line [23]: Quote/],
    ['only column names', 'prompt,response\n', /Received: only column names/],
    ['a missing cell', 'prompt,response\na,\n', /in line 2 .* no "response"/],
    ['an instruction without an answer', '{"instruction": "a"}', /in line 1 .* no "output"/],
    [
      'messages that end with a question',
      '{"messages": [{"role": "user", "content": "Hi"}]}',
      /In line 1 of .*: Expected an answer at the end/,
    ],
    [
      'messages with another role',
      '\n{"messages": [{"role": "bot", "content": "Hi"}, {"role": "model", "content": "x"}]}',
      /In line 2 of .*Received: "bot" as turn 1/,
    ],
    ['messages that are no list', '{"messages": {}}', /"messages" that are not a list/],
  ])('%s', async (_, text, message) => {
    await expect(read(text)).rejects.toThrow(message);
  });
});
