/** Limits of resizing. Its numbers are compared with KerasHub's in the tests of the image converter. */
import {ValueError} from '../../src';
import {type ResizingOptions, resizePixels} from '../../src/images/resizing';
import {picture} from '../support/picture';

const options: ResizingOptions = {
  size: [896, 896],
  interpolation: 'bilinear',
  antialias: false,
  cropToAspectRatio: false,
  padToAspectRatio: false,
};

describe('an image of one row, too long to be processed', () => {
  test('padding it to a square is refused', () => {
    const resize = () => resizePixels(picture(1, 20_000), {...options, padToAspectRatio: true});
    expect(resize).toThrow(ValueError);
    expect(resize).toThrow(
      'Expected an image of at most 178956970 pixels. Received: 20000 x 19999 pixels after padding to the aspect ' +
        'ratio. Make the image smaller.',
    );
  });

  test('resizing it with an interpolation that works in two steps is refused', () => {
    const resize = () => resizePixels(picture(1, 200_000), {...options, interpolation: 'bicubic'});
    expect(resize).toThrow(ValueError);
    expect(resize).toThrow('Received: 200000 x 896 pixels after its height was resized');
  });

  test('cropping and plain resizing work', () => {
    const {height, width} = resizePixels(picture(1, 20_000), options);
    expect([height, width]).toEqual([896, 896]);
    expect(resizePixels(picture(1, 20_000), {...options, cropToAspectRatio: true}).values).toHaveLength(896 * 896 * 3);
  });
});
