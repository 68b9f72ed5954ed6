/** The default settings of the page, which its address can override. */
export const DEFAULTS = {
  /** The sides, in their order. */
  sides: 'ours,transformers,web-llm',
  /** How the preset is stored on the GPU by this package. */
  dtype: 'int4',
  /** The model of transformers.js on Hugging Face, and its file. */
  onnx: 'onnx-community/gemma-3-1b-it-ONNX',
  onnxDtype: 'q4',
  /** The model of web-llm: a name of its list. */
  mlc: 'gemma3-1b-it-q4f16_1-MLC',
  /** Words of the prompt, new tokens, and turns of each side. */
  words: '100',
  tokens: '256',
  rounds: '5',
};

const TEXT =
  'A lighthouse stands on a rock at the end of the bay. Its keeper writes down every evening how the wind has turned, ' +
  'which ships have passed, and what the sea has brought to the shore. In winter the waves reach the windows of the ' +
  'lower rooms, and for weeks no boat can land. Then he reads, mends the nets, and waits for the light of the other ' +
  'tower, far in the north, that answers his own when the air is clear. Nobody has ever told him who lives there. One ' +
  'morning in spring a letter comes without a name, and in it is a question:';

/** The same text for all sides: its first words, again from the beginning if there are not enough. */
export function promptOf(words) {
  const all = TEXT.split(' ');
  return Array.from({length: words}, (_, i) => all[i % all.length]).join(' ');
}
