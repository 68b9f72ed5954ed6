/** Shapes as arrays of sizes. */

/** The number of values of a shape. */
export const sizeOf = (shape: readonly number[]): number => shape.reduce((count, size) => count * size, 1);
