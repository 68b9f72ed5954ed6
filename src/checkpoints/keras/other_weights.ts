/** Weights from a separate file, instead of those of a preset. */
import {show, ValueError} from '../../base/errors';
import {checkFetched, type HttpOptions} from '../../files/http_client';
import {fileName, type FileSource, isFileSource, openFileSource} from '../../files/open_file';
import {isRequested, optionsForOther} from '../../files/other_file';
import {type StoredWeights} from '../stored_weights';

/**
 * A checkpoint of which only the weights are read: those of a `.weights.h5` file of a backbone, or of a task around it.
 *
 * @param name that of the preset, for errors.
 * @param http how the files of the preset are requested.
 * @param nameOnly whether no file of the preset is read. Then options for requests must apply to this file.
 */
export function otherWeights(
  name: string,
  file: FileSource,
  http: HttpOptions,
  nameOnly = false,
): {name: string; weights(): Promise<StoredWeights>} {
  const title = isFileSource(file) ? fileName(file) : undefined;
  if (!isFileSource(file) || (title !== undefined && !/\.h5$/i.test(title))) {
    throw new ValueError(
      `Expected weights: a .weights.h5 file, as \`saveWeights\` and Keras' save_weights write it. Received: ` +
        `${show(title ?? file)}.${/\.(keras|gguf)$/i.test(title ?? '') ? ' This file is a preset by itself: pass it as the preset.' : ''}`,
    );
  }
  if (nameOnly) {
    const unused = {...http, ...(isRequested(file) && {fetch: undefined})};
    checkFetched({name}, unused, 'a preset whose files are read');
  }
  return {
    name,
    weights: async () => {
      const {openWeightFiles} = await import('./read_weights');
      const open = () => openFileSource(file, optionsForOther(file, name, http));
      return openWeightFiles('single', [{name: title?.split('/').at(-1) ?? 'weights', open}]);
    },
  };
}
