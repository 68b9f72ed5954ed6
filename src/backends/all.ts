/** The backends of this package. */
import {type Backend} from './backend';
import {cpu} from './cpu';
import {simd} from './simd';

/** Best first: "auto" takes the first that is preferred and available. */
export const backends = [simd, cpu] as const satisfies readonly Backend[];
