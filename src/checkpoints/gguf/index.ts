/** GGUF files of llama.cpp: one file with configuration, vocabulary and weights, and one for a vision encoder. */
import {type PresetSource} from '../../base/byte_source';
import {type Checkpoint, type CheckpointFormat, type FormatOptions} from '../checkpoint';
import {hasGguf} from './file_names';
import {GGUF_DTYPES, MODEL_FILE, storedName, visionFileOf} from './write_options';

export const ggufFormat = {
  name: 'gguf',
  recognizes: hasGguf,
  open: async (source: PresetSource, options?: FormatOptions): Promise<Checkpoint> => {
    const {openGgufModel} = await import('./open_model');
    return openGgufModel(source, options);
  },
  // A model in another format does not make these files obsolete: it was made from them.
  isWeightFile: () => false,
  writer: {
    isPreset: false,
    fileEnding: '.gguf',
    takesIntegers: true,
    dtypes: GGUF_DTYPES,
    dtypesNote: 'In GGUF files, int8 is q8_0, and int4 is q4_0.',
    options: [],
    // The encoder of an older model would be mistaken for the new one's.
    obsolete: (path: string) => path === visionFileOf(MODEL_FILE),
    storedDtype: storedName,
    checkOptions: () => {},
    write: async (sink, model, options) => {
      const {writeGgufModel} = await import('./write_model');
      return writeGgufModel(sink, model, options);
    },
  },
} as const satisfies CheckpointFormat;
