/** Which files of a model on a hub are downloaded, and which of them hold weights. */

/** Configurations, tokenizers, templates and licences. */
const SMALL = /\.(json|spm|model|txt|jinja)$/i;

/** Weights of KerasHub, tfjs and Hugging Face. Pickled ones can run code, and are not read. */
const WEIGHTS = [/\.weights\.h5$/, /\.safetensors$/, /\.keras$/, /\.gguf$/, /(^|\/)group\d+-shard\d+of\d+(\.bin)?$/];

/** Folders with the model for other programs. */
const OTHERS = /^(onnx|openvino|coreml|original|runs|\.[^/]*)\//i;

export const isWeights = (path: string): boolean => WEIGHTS.some(pattern => pattern.test(path));

/** Whether a file belongs to a preset. GGUF files are whole models, and are downloaded by their names. */
export const isWanted = (path: string): boolean =>
  !OTHERS.test(path) && !/\.gguf$/i.test(path) && (SMALL.test(path) || isWeights(path));
