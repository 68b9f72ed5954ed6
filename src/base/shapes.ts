/** Shapes: arrays of sizes. */

/** Number of values in an array of this shape. */
export const sizeOf = (shape: readonly number[]): number => shape.reduce((count, size) => count * size, 1);
