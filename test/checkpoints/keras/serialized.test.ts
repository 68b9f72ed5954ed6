/** Keras' JSON: casing of keys, and serialized objects. */
import {camelKeys, snakeKeys} from '../../../src/base/casing';
import {ValueError} from '../../../src/base/errors';
import {isSerialized, readSerialized} from '../../../src/checkpoints/keras/serialized';
import {MemoryPreset} from '../../../src/files/memory';
import {presets} from '../../../src/hub/registry';

describe('keys', () => {
  test('change their casing, and values stay unchanged', () => {
    const value = {snake_case: 'a_b', list: [{inner_key: 1}]};
    expect(camelKeys({num_layers: 1, gating_ffw_2: 2, already: 3, value_of: value})).toEqual({
      numLayers: 1,
      gatingFfw2: 2,
      already: 3,
      valueOf: value,
    });
    expect(snakeKeys({numLayers: 1, gatingFfw2: 2, already: 3, valueOf: value})).toEqual({
      num_layers: 1,
      gating_ffw_2: 2,
      already: 3,
      value_of: value,
    });
    expect(camelKeys({numLayers: 1})).toEqual({numLayers: 1});
  });

  test.each(Object.keys(presets))('of %s convert to camelCase and back', name => {
    const {config} = presets[name]!;
    expect(snakeKeys(camelKeys(config))).toEqual(config);
  });

  test('are refused in both casings at once', () => {
    expect(() => camelKeys({num_layers: 1, numLayers: 2})).toThrow(ValueError);
    expect(() => camelKeys({num_layers: 1, numLayers: 2})).toThrow(
      'Expected "numLayers" once, in one casing. Received keys: num_layers, numLayers.',
    );
  });
});

describe('readSerialized', () => {
  const preset = (text: string) => new MemoryPreset([['f.json', new TextEncoder().encode(text)]], 'preset');

  test('reads what Keras writes', async () => {
    const source = preset('{"module": "keras", "class_name": "A", "config": {"b": null}, "registered_name": null}');
    expect(await readSerialized(source, 'f.json')).toMatchObject({class_name: 'A', config: {b: null}});
    expect((await readSerialized(source, 'f.json', 'A')).config).toEqual({b: null});
    expect(isSerialized({class_name: 'A', config: {}})).toBe(true);
    expect(isSerialized({class_name: 'A', config: []})).toBe(false);
    expect(isSerialized(null)).toBe(false);
  });

  test.each([
    ['{', 'Expected JSON in "preset/f.json". Received: '],
    ['[1]', 'Expected "preset/f.json" to hold a Keras object with class_name and config. Received keys: [1].'],
    ['{"config": {}, "x": 1}', 'Received keys: config, x.'],
    ['{"class_name": "B", "config": {}}', 'Expected a A in "preset/f.json". Received: B.'],
    ['null', 'Received keys: null.'],
  ])('refuses %j', async (text, message) => {
    const reading = readSerialized(preset(text), 'f.json', 'A');
    await expect(reading).rejects.toThrow(ValueError);
    await expect(reading).rejects.toThrow(message);
  });
});
