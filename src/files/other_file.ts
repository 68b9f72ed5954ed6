/** Files that belong to a preset but are stored elsewhere, perhaps on another server. */
import {httpAddress} from './http_address';
import {type HttpOptions} from './http_client';
import {type FileSource} from './open_file';

/** What names a server: the origin of an address, or the scheme of a hub. Undefined for files that are not requested. */
function serverOf(name: string): string | undefined {
  const address = httpAddress(name);
  if (address !== undefined) return URL.canParse(address) ? new URL(address).origin : undefined;
  return /^(?!file:)([a-z][a-z\d+.-]+:)\/\//i.exec(name)?.[1]!.toLowerCase();
}

const serverOfFile = (file: FileSource): string | undefined => {
  const text = file instanceof URL ? file.href : file;
  return typeof text === 'string' ? serverOf(text) : undefined;
};

/** Whether a file is on a server. */
export const isRequested = (file: FileSource): boolean => serverOfFile(file) !== undefined;

/**
 * How to request a file that belongs to a preset. The headers of the preset may hold credentials, so they are sent only
 * to its own server.
 *
 * @param preset the name of the preset.
 * @param http how the files of the preset are requested.
 */
export function optionsForOther(file: FileSource, preset: string, {headers, fetch, signal}: HttpOptions): HttpOptions {
  const server = serverOfFile(file);
  const isSame = server !== undefined && server === serverOf(preset);
  return {
    ...(server !== undefined && fetch && {fetch}),
    ...(isSame && headers && {headers}),
    ...(signal && {signal}),
  };
}
