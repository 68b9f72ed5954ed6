/** Images in Node: only files. sharp decodes those that this package does not. */
import {readFile} from 'node:fs/promises';
import {ValueError} from '../../base/errors';
import {type CanvasPixels, type Drawable, type Images, type OtherImage} from '../contract';
import {pathOf} from './disk';

export async function readImageFile(path: string): Promise<Uint8Array> {
  try {
    return await readFile(pathOf(path));
  } catch (error) {
    if (error instanceof ValueError) throw error;
    const {code, message} = error as NodeJS.ErrnoException;
    const reasons: Record<string, string> = {
      ENOENT: 'no such file',
      EISDIR: 'a folder',
      EACCES: 'no permission',
    };
    throw new ValueError(
      `Expected an image file at "${path}". Received: ${reasons[code ?? ''] ?? message}. Check the path.`,
    );
  }
}

/** The parts of sharp's interface that are used here. */
interface Sharp {
  rotate(): Sharp;
  toColourspace(space: 'srgb'): Sharp;
  ensureAlpha(): Sharp;
  raw(options: {depth: 'uchar'}): Sharp;
  toBuffer(options: {resolveWithObject: true}): Promise<{
    data: Uint8Array;
    info: {width: number; height: number; channels: number};
  }>;
}
type SharpModule = {default: (bytes: Uint8Array, options: object) => Sharp};

/** Loaded when it is first needed: it is an optional package. A variable hides its name from bundlers. */
async function loadSharp(format: string): Promise<SharpModule['default']> {
  const name = 'sharp';
  try {
    return ((await import(/* webpackIgnore: true */ /* @vite-ignore */ name)) as SharpModule).default;
  } catch (error) {
    const {code, message} = error as NodeJS.ErrnoException;
    const missing = code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
    throw new Error(
      `Expected the package "sharp", which decodes ${format} files in Node. Received: ` +
        `${missing ? 'none is installed' : message}. Run \`npm install sharp\`, or convert the file to PNG or JPEG.`,
    );
  }
}

export async function decodeOtherFile(bytes: Uint8Array, {format}: OtherImage, turn: boolean): Promise<CanvasPixels> {
  if (!turn && format === 'AVIF') {
    throw new Error(
      'AVIF files are rotated while they are decoded: expected imageOrientation "from-image". Received: ' +
        '"none". Convert the file to PNG or JPEG.',
    );
  }
  const sharp = await loadSharp(format);
  try {
    // The size has been checked before. Damaged files are refused, not read partially.
    const image = sharp(bytes, {ignoreIcc: true, limitInputPixels: false, failOn: 'error'});
    const upright = turn && format !== 'AVIF' ? image.rotate() : image;
    const {data, info} = await upright
      .toColourspace('srgb')
      .ensureAlpha()
      .raw({depth: 'uchar'})
      .toBuffer({resolveWithObject: true});
    if (info.channels !== 4) throw new Error(`Expected 4 channels from sharp. Received: ${info.channels}.`);
    return {width: info.width, height: info.height, data};
  } catch (error) {
    throw new Error(
      `Expected a ${format} file that sharp decodes. Received: ${(error as Error).message}. Fetch the file again, or ` +
        'convert it to PNG or JPEG.',
    );
  }
}

/** Always undefined: Node has no image elements or canvases. */
export function drawable(_image: object): Drawable | undefined {
  return undefined;
}

void ({readImageFile, decodeOtherFile, drawable} satisfies Images);
