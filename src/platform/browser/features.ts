import {type Features} from '../contract';

/** A page cannot set the engine's flags. */
export const enableWideSimd = (): boolean => false;

/** A browser either supports it or does not. */
export function enableRelaxedSimd(): void {}

void ({enableRelaxedSimd, enableWideSimd} satisfies Features);
