/** The Worker that owns the models, so that the page never waits for them. */
import {serve} from 'tfjs-gemma3/worker/host';
import 'tfjs-gemma3/presets/gemma3_tiny';

serve();
