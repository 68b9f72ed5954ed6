/** The Worker that owns the model, so that the page can scroll while it computes. */
import {serve} from 'tfjs-gemma3/worker/host';
import 'tfjs-gemma3/presets/gemma3_tiny'; // only for "gemma3_tiny": not needed for a model on your server

serve();
