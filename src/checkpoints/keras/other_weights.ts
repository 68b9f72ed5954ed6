/** Weights from a file of their own, in place of those of a preset. */
import {show, ValueError} from '../../base/errors';
import {type HttpOptions} from '../../files/http_client';
import {httpAddress} from '../../files/http_address';
import {fileName, type FileSource, isFileSource, openFileSource} from '../../files/open_file';
import {type StoredWeights} from '../stored_weights';

/**
 * A checkpoint of which only the weights are read: those of a `.weights.h5` file of a backbone, or of a task around it.
 *
 * @param name that of the preset, for errors.
 * @param http how the files of the preset are requested. Its headers may hold credentials, so they go to the server of
 * the preset only.
 */
export function otherWeights(
  name: string,
  file: FileSource,
  {headers, fetch, signal}: HttpOptions,
): {name: string; weights(): Promise<StoredWeights>} {
  const title = isFileSource(file) ? fileName(file) : undefined;
  if (!isFileSource(file) || (title !== undefined && !/\.h5$/i.test(title))) {
    throw new ValueError(
      `Expected weights: a .weights.h5 file, as \`saveWeights\` and Keras' save_weights write it. Received: ` +
        `${show(title ?? file)}.${/\.(keras|gguf)$/i.test(title ?? '') ? ' This file is a preset by itself: pass it as the preset.' : ''}`,
    );
  }
  return {
    name,
    weights: async () => {
      const text = file instanceof URL ? file.href : file;
      const address = typeof text === 'string' ? httpAddress(text) : undefined;
      const isSameServer = address !== undefined && originOf(address) === originOf(httpAddress(name) ?? '');
      const options = address === undefined ? {} : {...(fetch && {fetch}), ...(isSameServer && headers && {headers})};
      const {openWeightFiles} = await import('./read_weights');
      const open = () => openFileSource(file, {...options, ...(signal && {signal})});
      return openWeightFiles('single', [{name: title?.split('/').at(-1) ?? 'weights', open}]);
    },
  };
}

const originOf = (address: string): string | undefined => (URL.canParse(address) ? new URL(address).origin : undefined);
