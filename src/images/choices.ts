/** Values of arguments about images. Separate from the code that uses them, which is loaded on demand. */

export const IMAGE_ORIENTATIONS = ['from-image', 'none'] as const;
/**
 * Whether image files are rotated and mirrored as their EXIF metadata says ("from-image") or read as they are stored
 * ("none"). These are the words of CSS' `image-orientation`.
 */
export type ImageOrientation = (typeof IMAGE_ORIENTATIONS)[number];

export const INTERPOLATIONS = ['bilinear', 'nearest', 'bicubic', 'lanczos3', 'lanczos5'] as const;
export type Interpolation = (typeof INTERPOLATIONS)[number];
