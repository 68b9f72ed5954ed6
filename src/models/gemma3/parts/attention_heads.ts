/** Checks that the numbers of attention heads match. */
import {ValueError} from '../../../base/errors';

/** @throws ValueError unless every key head has the same number of query heads, and the width of a head is even. */
export function checkAttentionHeads(
  owner: string,
  {numQueryHeads, numKeyValueHeads, headDim}: {numQueryHeads: number; numKeyValueHeads: number; headDim: number},
): void {
  if (numQueryHeads % numKeyValueHeads !== 0) {
    throw new ValueError(
      `${owner} expected numQueryHeads to be a multiple of numKeyValueHeads. ` +
        `Received: numQueryHeads=${numQueryHeads}, numKeyValueHeads=${numKeyValueHeads}.`,
    );
  }
  if (headDim % 2 !== 0) {
    throw new ValueError(`${owner} expected an even headDim, for rotary positions. Received: headDim=${headDim}.`);
  }
}
