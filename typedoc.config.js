/** Builds the API reference from the public exports and the guides: `npm run docs`. */
import {OptionDefaults} from 'typedoc';

export default {
  highlightLanguages: [...OptionDefaults.highlightLanguages, 'python'],
  entryPoints: ['src/index.ts', 'src/worker/index.ts', 'src/worker/host.ts'],
  projectDocuments: ['docs/*.md'],
  out: 'dist-docs',
  name: 'tfjs-gemma3',
  includeVersion: true,
  // Members inherited from tfjs are documented by tfjs.
  excludeExternals: true,
  excludePrivate: true,
  excludeInternal: true,
  // Links to sources would need a public repository.
  disableSources: true,
  // A tag of tfjs' build, used by its classes and by those derived from them.
  modifierTags: [...OptionDefaults.modifierTags, '@nocollapse'],
  // Contracts between folders of the sources, and lists from which types are derived. Users never need their names.
  intentionallyNotExported: [
    ...['CachedKeys', 'ChatModel', 'Decoder', 'DecoderCache', 'GeneratedText', 'NewTokens', 'OnHidden', 'SessionModel'],
    ...[
      'Batch',
      'EmbedderPreprocessor',
      'GenerationPreprocessor',
      'Gradients',
      'ImageReader',
      'Model',
      'Pixels',
      'Stage',
    ],
    ...['CallbackModel', 'Embedding', 'EncoderConfig', 'PatchConv2D', 'SavedPreprocessor', 'SavedTokenizer'],
    ...['backends', 'BY_NAME', 'IMAGE_ORIENTATIONS', 'INTERPOLATIONS', 'OwnArgs', 'OwnAttentionArgs', 'OwnName'],
    ...['ManyPrompts', 'OnePrompt', 'ProjectedTokens', 'REDUCTIONS', 'Written'],
    ...['ACTIVATIONS', 'BOX_FORMATS', 'FORMATS', 'KERAS_LOSSES', 'OPTIMIZERS', 'FactoryName', 'SnakeCase'],
    ...['BitsTarget', 'StepsAhead', 'TokenChoice'],
    ...['DataTensors', 'ForOutputs', 'NamedTensors'],
    ...['BrowserWorker', 'Details', 'Logprobs', 'NodeThread', 'Plain', 'WithRate'],
  ],
  // The code block with the list of floors in docs/architecture.md.
  ignoredHighlightLanguages: ['floors'],
  treatWarningsAsErrors: true,
  validation: {notExported: true, invalidLink: true, invalidPath: true, rewrittenLink: true},
};
