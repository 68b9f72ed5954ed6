/**
 * Files that Ollama's converter wrote (https://github.com/ollama/ollama/blob/main/convert/convert_gemma3.go): the vision
 * encoder is in the model's file, and some metadata has other names or is left out.
 */
import {type GgufFile, GgufStrings, type GgufTensor, type GgufValue} from '../../../formats/gguf';
import {EMBEDDING_ARCHITECTURE} from './gguf_config';

/** Names of metadata there, and those of llama.cpp. */
const KEYS: Readonly<Record<string, string>> = {
  'gemma3.rope.global.freq_base': 'gemma3.rope.freq_base',
  'gemma3.rope.local.freq_base': 'gemma3.rope.freq_base_swa',
};

/** Names of the encoder's tensors there, and those of llama.cpp. */
const TENSORS: readonly (readonly [string, string])[] = [
  ['v.patch_embedding.', 'v.patch_embd.'],
  ['v.position_embedding.', 'v.position_embd.'],
  ['v.post_layernorm.', 'v.post_ln.'],
  ['.layer_norm1.', '.ln1.'],
  ['.layer_norm2.', '.ln2.'],
  ['.attn_output.', '.attn_out.'],
  ['.mlp.fc1.', '.ffn_up.'],
  ['.mlp.fc2.', '.ffn_down.'],
  ['mm.mm_input_projection.', 'mm.input_projection.'],
  ['mm.mm_soft_emb_norm.', 'mm.soft_emb_norm.'],
];

/** Sizes of the encoder, after "gemma3.vision." there, and after "clip.vision." in files of llama.cpp. */
const SIZES = [
  'block_count',
  'embedding_length',
  'feed_forward_length',
  'image_size',
  'patch_size',
  'attention.head_count',
  'attention.layer_norm_epsilon',
];

/** From this context length on, positions are divided by 8. Ollama's first files do not tell it. */
const LONG_CONTEXT = 131_072;

/** The dense layers of an embedder there, and in files of llama.cpp. */
const DENSE: Readonly<Record<string, string>> = {
  'dense.0.weight': 'dense_2.weight',
  'dense.1.weight': 'dense_3.weight',
};

const isVision = (name: string) => name.startsWith('v.') || name.startsWith('mm.');

/** The two files that llama.cpp would have; undefined for files that are already in its form. */
export function fromOllama({
  version,
  metadata,
  tensors,
}: GgufFile): {model: GgufFile; vision: GgufFile | null} | undefined {
  const hasVision = [...tensors.keys()].some(isVision);
  if (Object.keys(DENSE).every(name => tensors.has(name))) return embedder({version, metadata, tensors});
  const isOllama =
    hasVision || metadata.has('gemma3.mm.tokens_per_image') || Object.keys(KEYS).some(key => metadata.has(key));
  if (!isOllama) return undefined;
  const text = [...tensors].filter(([name]) => !isVision(name));
  const encoder = [...tensors].filter(([name]) => isVision(name)).map(renamed);
  return {
    model: {version, metadata: textMetadata(metadata, tensors), tensors: new Map(text)},
    vision: hasVision ? {version, metadata: visionMetadata(metadata), tensors: new Map(encoder)} : null,
  };
}

/** An embedder, which has the architecture of the language model there. */
function embedder({version, metadata, tensors}: GgufFile): {model: GgufFile; vision: null} {
  const values = new Map<string, GgufValue>();
  for (const [key, value] of textMetadata(metadata, tensors)) {
    values.set(key.replace(/^gemma3\./, `${EMBEDDING_ARCHITECTURE}.`), value);
  }
  values.set('general.architecture', EMBEDDING_ARCHITECTURE);
  const all = [...tensors.values()].map(tensor => {
    const name = DENSE[tensor.name] ?? tensor.name;
    return [name, {...tensor, name}] as const;
  });
  return {model: {version, metadata: values, tensors: new Map(all)}, vision: null};
}

function renamed([name, tensor]: [string, GgufTensor]): [string, GgufTensor] {
  const found = TENSORS.find(([theirs]) => name.includes(theirs));
  const current = found ? name.replace(...found) : name;
  return [current, {...tensor, name: current}];
}

function textMetadata(metadata: GgufFile['metadata'], tensors: GgufFile['tensors']): ReadonlyMap<string, GgufValue> {
  const values = new Map(metadata);
  for (const [theirs, key] of Object.entries(KEYS)) {
    const value = metadata.get(theirs);
    if (value !== undefined && !values.has(key)) values.set(key, value);
  }
  const context = metadata.get('gemma3.context_length');
  if (typeof context === 'number' && context >= LONG_CONTEXT && !values.has('gemma3.rope.scaling.type')) {
    values.set('gemma3.rope.scaling.type', 'linear').set('gemma3.rope.scaling.factor', 8);
  }
  // Tokens without a row, such as <image_soft_token>.
  const rows = tensors.get('token_embd.weight')?.shape[0] ?? Infinity;
  for (const key of ['tokens', 'scores', 'token_type'].map(name => `tokenizer.ggml.${name}`)) {
    const list = values.get(key);
    if (list instanceof GgufStrings && list.length > rows) values.set(key, list.first(rows));
    else if ((list instanceof Float32Array || list instanceof Int32Array) && list.length > rows) {
      values.set(key, list.slice(0, rows));
    }
  }
  return values;
}

function visionMetadata(metadata: GgufFile['metadata']): ReadonlyMap<string, GgufValue> {
  const half = Float32Array.of(0.5, 0.5, 0.5);
  const values = new Map<string, GgufValue>([
    ['general.architecture', 'clip'],
    ['clip.projector_type', 'gemma3'],
    ['clip.vision.image_mean', half],
    ['clip.vision.image_std', half],
  ]);
  for (const size of SIZES) {
    const value = metadata.get(`gemma3.vision.${size}`);
    if (value !== undefined) values.set(`clip.vision.${size}`, value);
  }
  const [image, patch, tokens] = ['vision.image_size', 'vision.patch_size', 'mm.tokens_per_image'].map(key =>
    Number(metadata.get(`gemma3.${key}`)),
  ) as [number, number, number];
  const factor = Math.floor(image / patch) / Math.sqrt(tokens);
  if (Number.isInteger(factor)) values.set('clip.vision.projector.scale_factor', factor);
  return values;
}
