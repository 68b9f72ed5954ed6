/** Callbacks of training that do not wait for animation frames. */
import type * as tf from '@tensorflow/tfjs';
import {nextTurn} from '#platform/turn';

/**
 * Functions by name for tf.CustomCallback. It sometimes waits for the next animation frame, which a tab in the
 * background never gets. With these functions it waits for the next turn of the event loop instead.
 */
export const withoutFrames = (callback: tf.CustomCallbackArgs): tf.CustomCallbackArgs =>
  callback.nextFrameFunc ? callback : Object.assign(Object.create(callback), {nextFrameFunc: nextTurn});
