import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../src/errors';
import {getInitializer, type InitializerLike, serializeInitializer} from '../../src/layers/initializers';

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
  test.each(NAMES)('knows %s, in either casing, and what it serializes to', name => {
    const camel = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
    const serialized = serializeInitializer(getInitializer(name));
    expect(serializeInitializer(getInitializer(camel))).toEqual(serialized);
    const again = getInitializer(serialized as unknown as InitializerLike);
    expect(serializeInitializer(again)).toEqual(serialized);
    tf.tidy(() => expect(again.apply([3, 2], 'float32').shape).toEqual([3, 2]));
  });

  test('takes instances as they are', () => {
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

  test('refuses classes that do not exist', () => {
    expect(() => getInitializer({className: 'Nope', config: {}})).toThrow(
      'Unknown initializer class. Received: "Nope".',
    );
  });
});
