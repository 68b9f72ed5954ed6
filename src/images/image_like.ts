/** What counts as an image. The code that reads files is loaded with the first image. */
import {type readPixels as Read} from './read_pixels';

export type {ImageLike, ImageReader} from './read_pixels';
export {tensorReaders} from './tensor_readers';

/** As `readPixels` of `read_pixels.ts`. */
export const readPixels: typeof Read = async (...args) => (await import('./read_pixels')).readPixels(...args);
