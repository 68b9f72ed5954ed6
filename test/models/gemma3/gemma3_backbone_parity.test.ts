/** Hidden states, logits, numbers of parameters and summaries against Python KerasHub (test/reference). */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, type Gemma3EmbeddingOutputs, type ModelInputs} from '../../../src';
import {onEveryBackend} from '../../support/backends';
import {fixture, fixtureJson, fixtureNames} from '../../support/fixtures';
import {expectNoLeak, take} from '../../support/numbers';

interface Expected {
  batch: number;
  length: number;
  token_ids: number[];
  padding_mask: number[];
  hidden: number[];
  logits: number[];
  /** Only for embedding models. */
  pooled?: number[];
  params: number;
  summary: [string, string, number][];
}
const expectedOf = (name: string) => fixtureJson<Expected>(`backbone/${name}/expected.json`);

const inputsOf = ({batch, length, token_ids, padding_mask}: Expected) => ({
  token_ids: tf.tensor2d(token_ids, [batch, length], 'int32'),
  padding_mask: tf.tensor2d(padding_mask, [batch, length], 'int32'),
});

/** Outputs of a model with one output or with two. */
type Outputs = Pick<Gemma3EmbeddingOutputs, 'sequence_output'> & Partial<Gemma3EmbeddingOutputs>;
function outputsOf(backbone: Gemma3Backbone, inputs: ModelInputs): Outputs {
  return backbone.config.isEmbeddingModel
    ? backbone.predict<Gemma3EmbeddingOutputs>(inputs)
    : {sequence_output: backbone.predict(inputs) as tf.Tensor3D};
}

onEveryBackend(() =>
  describe.each(fixtureNames('backbone'))('%s', name => {
    const expected = expectedOf(name);

    test('computes the hidden states and logits of KerasHub', async () => {
      await expectNoLeak(async () => {
        const backbone = await Gemma3Backbone.fromPreset(fixture(`backbone/${name}`));
        const inputs = inputsOf(expected);
        const {sequence_output: hidden, pooled_output: pooled} = outputsOf(backbone, inputs);
        const logits = backbone.tokenEmbedding.call(hidden, {reverse: true});
        expect(hidden.shape).toEqual([expected.batch, expected.length, backbone.config.hiddenDim]);
        expect(await take(hidden)).toBeAllClose(expected.hidden, {atol: 1e-4});
        expect(await take(logits)).toBeAllClose(expected.logits, {atol: 1e-4});
        expect(pooled?.shape).toEqual(expected.pooled && [expected.batch, backbone.config.embeddingDim]);
        if (pooled) expect(await take(pooled)).toBeAllClose(expected.pooled!, {atol: 1e-4});
        tf.dispose(inputs);
        backbone.dispose();
      });
    });

    test('has the number of parameters and the summary of KerasHub', async () => {
      const backbone = await Gemma3Backbone.fromPreset(fixture(`backbone/${name}`), {loadWeights: false});
      expect(backbone.countParams()).toBe(expected.params);
      const rows: string[] = [];
      backbone.summary(400, undefined, message => rows.push(String(message)));
      const printed = rows
        .map(row => /^(\S+) \((\w+)\).*?\s(\d+)\s/.exec(row))
        .filter(match => match !== null)
        .map(([, layer, cls, params]) => [layer, cls, Number(params)]);
      // Keras counts `Multiply` layers across all models of a process, so its numbers depend on the other models.
      const summary = expected.summary.map(([layer, ...row]) => [layer.replace(/^multiply_\d+$/, 'multiply'), ...row]);
      expect(printed).toEqual(summary);
      expect(rows.join('\n')).toContain(`Total params: ${expected.params}`);
      backbone.dispose();
    });
  }),
);
