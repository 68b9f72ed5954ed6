/** The backend `cuda` in browsers: there is none. */
import {type Backend} from '../backend';

export const cuda = [] as const satisfies readonly Backend[];
