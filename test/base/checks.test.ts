/** Checks of arguments, and the error texts of layers that use them. */
import {Gemma3VisionEncoder} from '../../src';
import {type ArgumentKind, checkArgument, checkArguments, checkObject} from '../../src/base/checks';
import {ValueError} from '../../src/base/errors';
import {Dense, EinsumDense, ReversibleEmbedding, RMSNormalization, RotaryEmbedding} from '../../src/public/layers';

const VISION = {
  imageSize: 8,
  patchSize: 2,
  numHeads: 2,
  hiddenDim: 4,
  numLayers: 1,
  intermediateDim: 4,
  outputDim: 4,
  poolSize: 2,
};

describe('checkArgument', () => {
  test.each<[ArgumentKind, unknown[], unknown[], string]>([
    ['size', [1, 262144], [0, -1, 1.5, NaN, Infinity, '1', true, null, undefined, [1]], 'to be a positive integer'],
    ['sizeOrNull', [null, 3], [0, 1.5, undefined, '3'], 'to be null or a positive integer'],
    ['positive', [1e-9, 2], [0, -1, NaN, Infinity, '1', null, undefined], 'to be above 0'],
    ['positiveOrNull', [null, 0.5], [0, Infinity, '30', undefined], 'to be null or above 0'],
    ['rate', [0, 0.99], [1, -0.1, NaN, '0', null], 'in [0, 1)'],
    ['flag', [true, false], [0, 1, 'no', null, undefined], 'to be true or false'],
    ['text', ['', 'a'], [3, null, {}], 'to be a string'],
  ])('%s', (kind, good, bad, text) => {
    for (const value of good) expect(() => checkArgument('X', 'a', value, kind)).not.toThrow();
    for (const value of bad) {
      expect(() => checkArgument('X', 'a', value, kind)).toThrow(ValueError);
      expect(() => checkArgument('X', 'a', value, kind)).toThrow(`X expected \`a\` ${text}. Received: a=`);
    }
  });
});

test.each([undefined, null, 3, 'x', [], [{}]])('arguments are one object, not %j', args => {
  const message = 'X expected its arguments in one object: {name: value, …}. Received: ';
  expect(() => checkObject('X', args)).toThrow(ValueError);
  expect(() => checkObject('X', args)).toThrow(message);
  expect(() => checkArguments('X', args, ['a'])).toThrow(message);
  expect(() => checkArguments('X', {b: 1}, ['a'])).toThrow('X has no argument "b". Expected: a.');
});

test.each<[() => unknown, string]>([
  [() => new Dense(undefined as never), 'Dense expected its arguments in one object'],
  [() => new EinsumDense(8 as never), 'EinsumDense expected its arguments in one object'],
  [() => new Dense({units: 1, name: 3} as never), 'Dense expected `name` to be a string. Received: name=3.'],
  [
    () => new RMSNormalization({trainable: 'no'} as never),
    '`trainable` to be true or false. Received: trainable="no".',
  ],
  [() => new Dense({units: 1, useBias: 'no'} as never), 'Dense expected `useBias` to be true or false'],
  [() => new ReversibleEmbedding({inputDim: 1, outputDim: 1, tieWeights: 1} as never), '`tieWeights` to be true or'],
  [() => new ReversibleEmbedding({inputDim: 1, outputDim: 1, logitSoftCap: 0}), '`logitSoftCap` to be null or above 0'],
  [() => new RotaryEmbedding({maxWavelength: 0}), 'RotaryEmbedding expected `maxWavelength` to be above 0'],
  [
    () => new Gemma3VisionEncoder({...VISION, layerNormEpsilon: 0}),
    'Gemma3VisionEncoder expected `layerNormEpsilon` to be above 0. Received: layerNormEpsilon=0.',
  ],
  [() => new RotaryEmbedding({scalingFactor: -1}), 'RotaryEmbedding expected `scalingFactor` to be above 0'],
])('layers name the argument that does not fit: %#', (make, message) => {
  expect(make).toThrow(ValueError);
  expect(make).toThrow(message);
});
