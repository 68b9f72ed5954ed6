/** `gemma3 presets`. */
import {Gemma3Backbone} from 'tfjs-gemma3';
import {run, TINY} from './run';

describe('gemma3 presets', () => {
  test('prints one object', async () => {
    const {code, stdout, stderr} = await run(['presets', '--json']);
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
    const {presets} = JSON.parse(stdout) as {presets: Record<string, unknown>[]};
    expect(presets.map(({name}) => name)).toEqual([TINY, ...Object.keys(Gemma3Backbone.presets)]);
    expect(presets[0]).toMatchObject({packaged: true, kaggleHandle: null, parameters: expect.any(Number)});
    const entry = Gemma3Backbone.presets.gemma3_1b!;
    expect(presets[1]).toEqual({
      name: 'gemma3_1b',
      parameters: entry.metadata.params,
      description: entry.metadata.description,
      packaged: false,
      kaggleHandle: entry.kaggleHandle,
    });
  });

  test('prints a table', async () => {
    const {code, stdout} = await run(['presets']);
    const lines = stdout.trimEnd().split('\n');
    expect(code).toBe(0);
    expect(lines).toHaveLength(2 + Object.keys(Gemma3Backbone.presets).length);
    expect(lines[1]).toMatch(/^gemma3_tiny .* Ships with the package\.$/);
    expect(lines[2]).toMatch(/^gemma3_1b +999,885,952 {2}Gemma 3 1B/);
  });
});
