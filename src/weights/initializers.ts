/** Initializers by their Keras names. tfjs has the classes but does not export its lookup by name. */
import * as tf from '@tensorflow/tfjs';
import {camelKeys} from '../base/casing';
import {checkObject} from '../base/checks';
import {show, ValueError} from '../base/errors';

export type Initializer = ReturnType<typeof tf.initializers.zeros>;

type SnakeCase<S extends string> = S extends `${infer Start}U${infer End}`
  ? `${Start}_u${End}`
  : S extends `${infer Start}N${infer End}`
    ? `${Start}_n${End}`
    : S;

// Written out: inferred from `factories`, the published types would name files within tfjs, which TypeScript does not
// find with `moduleResolution: nodenext`.
type FactoryName =
  'zeros' | 'ones' | 'uniform' | 'normal' | `${'random' | 'glorot' | 'he' | 'lecun'}${'Uniform' | 'Normal'}`;

/** Names of initializers, as in Keras or in tfjs. */
export type InitializerName = FactoryName | SnakeCase<FactoryName>;

/**
 * A name (`glorot_uniform` or `glorotUniform`), an instance, a result of `serializeInitializer`, or the object that
 * Keras writes.
 */
export type InitializerLike =
  | InitializerName
  | (string & {})
  | Initializer
  | {className: string; config: tf.serialization.ConfigDict}
  | {class_name: string; config: object; [key: string]: unknown};

const factories: Readonly<Record<FactoryName, () => Initializer>> = {
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

/** @throws ValueError for an unknown name or class, an invalid configuration, or any other kind of value. */
export function getInitializer(identifier: InitializerLike): Initializer {
  if (typeof identifier === 'string') return byName(identifier);
  const {className, class_name: kerasName, config} = (identifier ?? {}) as Record<string, unknown>;
  if (className !== undefined || kerasName !== undefined) return deserialize(className ?? kerasName, config);
  if (!isInitializer(identifier)) {
    throw new ValueError(
      `Expected an initializer: a name, an instance of tf.initializers, or {className, config}. ` +
        `Received: ${show(identifier)}.`,
    );
  }
  return identifier;
}

function byName(identifier: string): Initializer {
  const name = camel(identifier);
  const known: Readonly<Record<string, () => Initializer>> = factories;
  const create = Object.hasOwn(known, name) ? known[name] : undefined;
  if (!create) {
    throw new ValueError(
      `Expected an initializer name, one of: ${Object.keys(factories).join(', ')}. Received: ${show(identifier)}.`,
    );
  }
  return create();
}

/** Layers are excluded because they have an `apply` too. */
const isInitializer = (value: unknown): value is Initializer =>
  typeof (value as Initializer | null)?.apply === 'function' &&
  typeof (value as Initializer).getClassName === 'function' &&
  !(value instanceof tf.layers.Layer);

/** tfjs writes this name as "LeCun…", Keras 3 as "Lecun…". */
const tfjsName = (name: string) => name.replace(/^Lecun(?=Normal$|Uniform$)/, 'LeCun');

/** Translates string options. In tfjs, "truncatedNormal" must be "normal": otherwise it is read as "uniform". */
const tfjsValue = (option: string, value: unknown) => {
  if (typeof value !== 'string' || (option !== 'mode' && option !== 'distribution')) return value;
  const word = camel(value);
  return option === 'distribution' && word === 'truncatedNormal' ? 'normal' : word;
};

/** Reads the form that tfjs writes, or the one that Keras writes, whose keys and words are in snake case. */
function deserialize(name: unknown, config: unknown): Initializer {
  const {classNameMap} = tf.serialization.SerializationMap.getMap();
  const key = typeof name === 'string' ? tfjsName(name) : '';
  const registered = Object.hasOwn(classNameMap, key) ? classNameMap[key] : undefined;
  if (!registered) throw new ValueError(`Unknown initializer class. Received: ${show(name)}.`);
  if (config != null) checkObject(`Initializer ${key}`, config);
  const args = Object.entries(camelKeys(config ?? {})).map(([option, value]) => [option, tfjsValue(option, value)]);
  let initializer: unknown;
  try {
    initializer = registered[1](registered[0], Object.fromEntries(args) as tf.serialization.ConfigDict);
  } catch (error) {
    throw new ValueError(`Initializer ${key}: ${(error as Error).message} Received: config=${show(config)}.`);
  }
  if (!isInitializer(initializer)) {
    throw new ValueError(`Expected the class of an initializer. Received: ${show(name)}.`);
  }
  return initializer;
}

/** The form in which a layer's `getConfig` stores an initializer. */
export function serializeInitializer(initializer: Initializer): tf.serialization.ConfigDict {
  return {className: initializer.getClassName(), config: initializer.getConfig()};
}
