/** WebAssembly features in browsers, where a page cannot enable them. */
import {type Features} from '../contract';

/** Always false: a page cannot set the engine's flags. */
export const enableWideSimd = (): boolean => false;

/** Does nothing: a page cannot set the engine's flags. */
export function enableRelaxedSimd(): void {}

void ({enableRelaxedSimd, enableWideSimd} satisfies Features);
