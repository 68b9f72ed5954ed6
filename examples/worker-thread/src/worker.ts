/** The thread that owns the model. */
import {serve} from 'tfjs-gemma3/worker/host';

serve();
