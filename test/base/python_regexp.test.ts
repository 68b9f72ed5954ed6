/** Python's patterns match here what they match in Python. Expected values are those of Python 3.11's `re`. */
import {translatePattern} from '../../src/base/python_regexp';

const NAMES = [
  'model.layers.0.self_attn.q_proj',
  'model.layers.11.self_attn.q_proj',
  'model.layers.1.mlp.up_proj',
  'language_model.model.layers.1.self_attn.o_proj',
  'layers]x',
  'a{x}b',
  'aab',
];

test.each<[string, number[]]>([
  ['q_proj', [0, 1]],
  ['layers\\.1\\.self_attn\\.o_proj', [3]],
  ['\\Amodel\\.layers\\.\\d+\\.mlp\\.(?P<part>up|down)_proj\\Z', [2]],
  ['(?:q|o)_proj', [0, 1, 3]],
  ['(?P<a>q)_(?P<b>proj)', [0, 1]],
  ['model.layers.1{,2}.self_attn.q_proj', [1]],
  ['model\\.layers\\.\\d{,1}\\.self_attn\\.q_proj', [0]],
  ['layers[]]x', [4]],
  ['layers[^]a]x', []],
  ['[\\w.]+(?#comment)_proj', [0, 1, 2, 3]],
  ['a{x}b', [5]],
  ['a{2}b', [6]],
  ['a{,}b', [6]],
  ['q_proj|o_proj', [0, 1, 3]],
  ['^model.*q_proj$', [0, 1]],
  ['(?!.*q_proj).*\\bself_attn\\b.*', [3]],
  ['(?<=self_attn\\.)[qo]_proj', [0, 1, 3]],
  ['[\\[\\]\\-.\\w]+_proj', [0, 1, 2, 3]],
  ['.*?', [0, 1, 2, 3, 4, 5, 6]],
  ['nothing', []],
])('%s', (pattern, expected) => {
  const regExp = new RegExp(`^(.*\\.)?(${translatePattern(pattern)})$`);
  expect([...NAMES.keys()].filter(i => regExp.test(NAMES[i]!))).toEqual(expected);
});

test.each([
  ...['(?i)Q', '(?i:Q)', 'a++b', 'a*+b', 'a{1,2}+b', '(?>a)b', '(a)\\1b', '(?P<x>a)(?P=x)', '(a)?(?(1)b|c)'],
  ...['\\pL', '\\k<a>', '\\u0061', '[\\Z]', '(?<x>a)', 'a(', '*a', '[a', 'a\\', '(?P<x>a)(?P<x>b)'],
])('%s has no equal in JavaScript, or is no pattern of Python', pattern => {
  expect(translatePattern(pattern)).toBeUndefined();
});
