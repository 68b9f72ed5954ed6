/** A model's configuration as one string, for tfjs' files. */
import type * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';

/**
 * Stores a model's configuration as one string: when tfjs writes JSON, it changes the case of keys and even of values,
 * except under the key `name`.
 */
export function packConfig(saved: tf.serialization.ConfigDict): tf.serialization.ConfigDict {
  const config = saved.config as tf.serialization.ConfigDict;
  return {...saved, config: {name: config.name!, configJson: {name: JSON.stringify(config)}}};
}

/** The configuration that `packConfig` stored; any other configuration is returned as it is. */
export function unpackConfig(config: object): Record<string, unknown> {
  const packed = (config as {configJson?: {name?: unknown}}).configJson?.name;
  if (packed === undefined) return config as Record<string, unknown>;
  if (typeof packed !== 'string')
    throw new ValueError(`Expected a configuration as one string. Received: ${show(packed)}.`);
  return JSON.parse(packed) as Record<string, unknown>;
}
