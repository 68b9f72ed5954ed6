/** Images at addresses. */
import {checkKeys, describeValue, show, ValueError} from '../base/errors';
import {fetchFile} from '../files/http';
import {REQUEST_OPTIONS, type RequestOptions} from '../files/http_client';

/** The http(s) address of an image, and how to request it. */
export interface ImageRequest extends RequestOptions {
  url: string | URL;
}

/** Whether a string is an address that `fetch` reads, not a path. */
export const isAddress = (image: string): boolean => /^(https?:\/\/|data:|blob:)/i.test(image);

const isHttp = (address: string) => /^https?:/i.test(address);

/** An address in an error message: without its query, which may have secrets. Data addresses can have megabytes. */
export function shownAddress(address: string): string {
  const whole = isHttp(address) ? address.split(/[?#]/)[0]! : address;
  return show(whole.length > 80 && !isHttp(address) ? `${whole.slice(0, 80)}…` : whole);
}

/** Whether a value is an address with options for its request. Image elements do not have these keys. */
export const isRequest = (image: unknown): image is ImageRequest =>
  typeof image === 'object' && image !== null && Object.getPrototypeOf(image) === Object.prototype && 'url' in image;

/** @throws ValueError unless the url is an http(s) address, and on unknown options. */
export function imageRequest(image: ImageRequest): {url: string; options: RequestOptions} {
  const {url, ...options} = image;
  checkKeys('An image with a url', options, REQUEST_OPTIONS);
  const address = url instanceof URL ? url.href : url;
  if (typeof address === 'string' && isHttp(address)) return {url: address, options};
  const received = typeof address === 'string' ? show(address) : describeValue(address);
  throw new ValueError(`Expected the http(s) address of an image as url. Received: ${received}.`);
}

/**
 * The bytes at an http(s), data or blob address.
 *
 * @throws ValueError naming the address if there are none.
 */
export async function fetchImage(address: string, options: RequestOptions = {}): Promise<Uint8Array> {
  const refuse = (received: string, advice = '') =>
    new ValueError(`Expected an image at ${shownAddress(address)}. Received: ${received}${advice}`);
  try {
    if (isHttp(address)) return await fetchFile(address, options);
    return new Uint8Array(await (await fetch(address)).arrayBuffer());
  } catch (error) {
    const {message} = error as Error;
    if (!isHttp(address)) throw refuse(`${message}.`, ' Check that the address is whole.');
    const received = message.split(' Received: ')[1];
    if (received === undefined) throw error;
    throw refuse(received, error instanceof ValueError ? ' Check the address.' : '');
  }
}
