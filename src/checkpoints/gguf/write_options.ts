/** The types in which a GGUF file can be written. */
import {ValueError} from '../../base/errors';

/** A way to store weights. */
interface GgufDtype {
  /** Type of matrices. */
  readonly type: string;
  /** Type of matrices of a vision encoder. */
  readonly vision: string;
  /** llama.cpp's number, for `general.file_type`. */
  readonly fileType: number;
}

/** llama.cpp's names of file types, and the names that dtypes have elsewhere in this package. */
const TYPES: Readonly<Record<string, GgufDtype>> = {
  f32: {type: 'F32', vision: 'F32', fileType: 0},
  f16: {type: 'F16', vision: 'F16', fileType: 1},
  bf16: {type: 'BF16', vision: 'BF16', fileType: 32},
  q8_0: {type: 'Q8_0', vision: 'F16', fileType: 7},
  q4_0: {type: 'Q4_0', vision: 'F16', fileType: 2},
};

/** The same types under the names of dtypes. */
const SAME: Readonly<Record<string, string>> = {
  ...{float32: 'f32', float16: 'f16', bfloat16: 'bf16'},
  ...{mixed_bfloat16: 'f32', mixed_float16: 'f32', int8: 'q8_0', int4: 'q4_0'},
};

/** How weights of a dtype are stored. */
export const ggufDtype = (dtype: string): GgufDtype => TYPES[SAME[dtype] ?? dtype]!;

/** The name that a dtype has in the result of a conversion. */
export function storedName(dtype: string): string {
  const name = SAME[dtype] ?? dtype;
  return {f32: 'float32', f16: 'float16', bf16: 'bfloat16'}[name] ?? name;
}

/** Number of a type of files, for `general.file_type`. */
export const fileTypeOf = (type: string): number => Object.values(TYPES).find(entry => entry.type === type)!.fileType;

export const GGUF_DTYPES = ['float32', 'float16', 'bfloat16', 'f32', 'f16', 'bf16', 'q8_0', 'q4_0'] as const;

/** The file of the vision encoder next to a model's file. */
export const visionFileOf = (file: string): string => `mmproj-${file}`;

/** Name of the model's file in a folder. */
export const MODEL_FILE = 'model.gguf';

/** @throws ValueError if the file could not be read as a model afterwards. */
export function checkFile(name: string): void {
  if (!/mmproj/i.test(name)) return;
  throw new ValueError(
    'Expected the name of a file without "mmproj", which marks files with vision encoders. Received: ' +
      `"${name}". The vision encoder of a model is written next to it.`,
  );
}
