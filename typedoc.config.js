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
  treatWarningsAsErrors: true,
  validation: {notExported: true, invalidLink: true, invalidPath: true, rewrittenLink: true},
};
