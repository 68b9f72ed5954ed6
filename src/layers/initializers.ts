/** Initializers by their Keras names; tfjs has the classes but does not export the look-up. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../errors';

export type Initializer = ReturnType<typeof tf.initializers.zeros>;

/** A name (`glorot_uniform` or `glorotUniform`), an instance, or what `serializeInitializer` returned. */
export type InitializerLike = string | Initializer | {className: string; config: tf.serialization.ConfigDict};

const factories: Record<string, () => Initializer> = {
  zeros: () => tf.initializers.zeros(),
  ones: () => tf.initializers.ones(),
  uniform: () => tf.initializers.randomUniform({minval: -0.05, maxval: 0.05}),
  normal: () => tf.initializers.randomNormal({stddev: 0.05}),
  randomUniform: () => tf.initializers.randomUniform({minval: -0.05, maxval: 0.05}),
  randomNormal: () => tf.initializers.randomNormal({stddev: 0.05}),
  glorotUniform: () => tf.initializers.glorotUniform({}),
  glorotNormal: () => tf.initializers.glorotNormal({}),
  heUniform: () => tf.initializers.heUniform({}),
  heNormal: () => tf.initializers.heNormal({}),
  lecunUniform: () => tf.initializers.leCunUniform({}),
  lecunNormal: () => tf.initializers.leCunNormal({}),
};

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

/** @throws ValueError for a name that is not known. */
export function getInitializer(identifier: InitializerLike): Initializer {
  if (typeof identifier === 'string') {
    const name = camel(identifier);
    const make = Object.hasOwn(factories, name) ? factories[name] : undefined;
    if (!make) {
      throw new ValueError(
        `Expected an initializer name, one of: ${Object.keys(factories).join(', ')}. Received: ${show(identifier)}.`,
      );
    }
    return make();
  }
  if ('className' in identifier && 'config' in identifier) {
    const registered = tf.serialization.SerializationMap.getMap().classNameMap[identifier.className];
    if (!registered) throw new ValueError(`Unknown initializer class. Received: ${show(identifier.className)}.`);
    return registered[1](registered[0], identifier.config) as unknown as Initializer;
  }
  return identifier as Initializer;
}

/** The form that `getConfig` of a layer stores. */
export function serializeInitializer(initializer: Initializer): tf.serialization.ConfigDict {
  return {className: initializer.getClassName(), config: initializer.getConfig()};
}
