/** Initializers by name, instance or serialized form. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../src/base/errors';
import {getInitializer, type InitializerLike, serializeInitializer} from '../../src/weights/initializers';

const NAMES = [
  'zeros',
  'ones',
  'uniform',
  'normal',
  'random_uniform',
  'random_normal',
  'glorot_uniform',
  'glorot_normal',
  'he_uniform',
  'he_normal',
  'lecun_uniform',
  'lecun_normal',
];

describe('getInitializer', () => {
  test.each(NAMES)('finds %s, in either casing, and by its serialized form', name => {
    const camel = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
    const serialized = serializeInitializer(getInitializer(name));
    expect(serializeInitializer(getInitializer(camel))).toEqual(serialized);
    const again = getInitializer(serialized as unknown as InitializerLike);
    expect(serializeInitializer(again)).toEqual(serialized);
    tf.tidy(() => expect(again.apply([3, 2], 'float32').shape).toEqual([3, 2]));
  });

  test('accepts instances', () => {
    const instance = tf.initializers.constant({value: 3});
    expect(getInitializer(instance)).toBe(instance);
  });

  test('has the defaults of Keras', () => {
    const values = (name: string) =>
      tf.tidy(() => Array.from(getInitializer(name).apply([200, 200]).dataSync() as Float32Array));
    const uniform = values('uniform');
    expect(Math.max(...uniform)).toBeLessThanOrEqual(0.05);
    expect(Math.max(...uniform)).toBeGreaterThan(0.0499);
    expect(Math.min(...uniform)).toBeGreaterThanOrEqual(-0.05);
    const normal = values('normal');
    expect(Math.sqrt(normal.reduce((sum, v) => sum + v * v, 0) / normal.length)).toBeCloseTo(0.05, 3);
  });

  test.each(['nope', 'toString', 'constructor', ''])('refuses %j', name => {
    expect(() => getInitializer(name)).toThrow(ValueError);
    expect(() => getInitializer(name)).toThrow('Expected an initializer name, one of: zeros, ones');
  });

  test.each<[string, object, object]>([
    ['VarianceScaling', {scale: 2, mode: 'fan_out', distribution: 'uniform', seed: 3}, {mode: 'fanOut', scale: 2}],
    ['VarianceScaling', {distribution: 'truncated_normal', mode: 'fan_avg'}, {distribution: 'normal', mode: 'fanAvg'}],
    ['LecunNormal', {seed: null}, {mode: 'fanIn', distribution: 'normal'}],
    ['LecunUniform', {seed: 1}, {mode: 'fanIn', distribution: 'uniform', seed: 1}],
    ['GlorotUniform', {seed: null}, {mode: 'fanAvg', distribution: 'uniform'}],
    ['RandomNormal', {mean: 1, stddev: 0.01, seed: 4}, {mean: 1, stddev: 0.01, seed: 4}],
    ['Zeros', {}, {}],
  ])('accepts what Keras wrote: %s %j', (kind, config, expected) => {
    const keras = {module: 'keras.initializers', class_name: kind, config, registered_name: null};
    const initializer = getInitializer(keras);
    expect(initializer.getConfig()).toMatchObject(expected);
    const again = getInitializer(serializeInitializer(initializer) as unknown as InitializerLike);
    expect(serializeInitializer(again)).toEqual(serializeInitializer(initializer));
    tf.tidy(() => expect(initializer.apply([3, 2], 'float32').shape).toEqual([3, 2]));
  });

  test('draws from a truncated normal distribution where Keras says so, not from a uniform one', () => {
    const config = {scale: 1, mode: 'fan_in', distribution: 'truncated_normal', seed: 1};
    const values = tf.tidy(() =>
      getInitializer({class_name: 'VarianceScaling', config}).apply([400, 100], 'float32').dataSync(),
    );
    // A uniform distribution of this variance ends at √3 standard deviations.
    expect(Math.max(...values)).toBeGreaterThan(1.9 * 0.05);
  });

  test.each<[unknown, string]>([
    [{className: 'Nope', config: {}}, 'Unknown initializer class. Received: "Nope".'],
    [{class_name: 'toString', config: {}}, 'Unknown initializer class. Received: "toString".'],
    [{class_name: 3, config: {}}, 'Unknown initializer class. Received: 3.'],
    [{class_name: 'Dense', config: {units: 1}}, 'Expected the class of an initializer. Received: "Dense".'],
    [{class_name: 'Constant', config: {}}, 'Initializer Constant: config must have value set'],
    [{class_name: 'Zeros', config: 'x'}, 'Initializer Zeros expected its arguments in one object'],
    [
      {class_name: 'VarianceScaling', config: {distribution: 'untruncated_normal'}},
      'Received: config={"distribution":"untruncated_normal"}.',
    ],
    [null, 'Expected an initializer: a name, an instance of tf.initializers, or {className, config}. Received: null.'],
    [3, 'Received: 3.'],
    [{}, 'Received: {}.'],
  ])('refuses %j', (identifier, message) => {
    expect(() => getInitializer(identifier as never)).toThrow(ValueError);
    expect(() => getInitializer(identifier as never)).toThrow(message);
  });
});
