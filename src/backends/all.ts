/** The backends of this package. */
import {cuda} from '#backends/cuda';
import {type Backend} from './backend';
import {cpu} from './cpu';
import {simd} from './simd';
import {webgpu} from './webgpu';

/** Best first: "auto" takes the first that is preferred and available. */
export const backends = [webgpu, ...cuda, simd, cpu] as const satisfies readonly Backend[];
