/** The API reference, from the public names and the guides: `npm run docs`. */
import {OptionDefaults} from 'typedoc';

export default {
  entryPoints: ['src/index.ts'],
  projectDocuments: ['docs/*.md'],
  out: 'dist-docs',
  name: 'tfjs-gemma3',
  includeVersion: true,
  // What a class inherits from tfjs is in the documentation of tfjs.
  excludeExternals: true,
  excludePrivate: true,
  excludeInternal: true,
  // Links to sources would need a public repository.
  disableSources: true,
  // Of tfjs' own build; its classes have it as well.
  modifierTags: [...OptionDefaults.modifierTags, '@nocollapse'],
  // Contracts between folders of the sources, and lists that types are derived from: no user has to name them.
  intentionallyNotExported: [
    ...['CachedKeys', 'ChatModel', 'Decoder', 'DecoderCache', 'GeneratedText', 'NewTokens', 'OnHidden', 'SessionModel'],
    ...['Batch', 'EmbedderPreprocessor', 'GenerationPreprocessor', 'Gradients', 'Model', 'Pixels', 'Stage'],
    ...['Gemma3VisionAveragePooling', 'Gemma3VisionEncoderBlock', 'Gemma3VisionOutput'],
    ...['backends', 'BY_NAME', 'INTERPOLATIONS', 'OwnArgs', 'OwnAttentionArgs', 'OwnName', 'REDUCTIONS', 'Written'],
  ],
  // The list of floors in docs/architecture.md.
  ignoredHighlightLanguages: ['floors'],
  treatWarningsAsErrors: true,
  validation: {notExported: true, invalidLink: true, invalidPath: true, rewrittenLink: true},
};
