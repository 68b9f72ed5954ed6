/** Callbacks of training that do not wait for animation frames. */
import type * as tf from '@tensorflow/tfjs';
import {nextTurn} from '#platform/turn';

/**
 * Functions by name for tf.CustomCallback, which now and then waits before it goes on: for the next animation frame, of
 * which a tab in the background gets none. With these it waits for the next turn of the event loop.
 */
export const withoutFrames = (callback: tf.CustomCallbackArgs): tf.CustomCallbackArgs =>
  callback.nextFrameFunc ? callback : Object.assign(Object.create(callback), {nextFrameFunc: nextTurn});
