/** Reading the configuration of a preset. */
import {Gemma3Backbone, readPresetConfig, ValueError} from '../../src';
import {MemoryPreset} from '../../src/files/memory';

describe('readPresetConfig', () => {
  test('returns the configuration with the names of Keras', async () => {
    const {class_name: className, config} = await readPresetConfig('gemma3_tiny');
    expect(className).toBe('Gemma3Backbone');
    const backbone = await Gemma3Backbone.fromPreset('gemma3_tiny', {loadWeights: false});
    expect(config.num_layers).toBe(backbone.config.numLayers);
    backbone.dispose();
  });

  test('refuses a preset without a valid config.json', async () => {
    const preset = new MemoryPreset();
    await expect(readPresetConfig(preset)).rejects.toThrow(/config\.json/);
    preset.files.set('config.json', new TextEncoder().encode('{'));
    await expect(readPresetConfig(preset)).rejects.toThrow(ValueError);
    await expect(readPresetConfig('nowhere')).rejects.toThrow(/^Expected a preset: /);
  });
});
