/** Arguments of preprocessors as they are stored in configurations of this package and of KerasHub. */
import {camelKeys} from '../../../base/casing';
import {isObject} from '../../../base/json';

/** The configuration of an object that this package or Keras serialized. */
export function configOf(value: unknown): object {
  return isObject(value) && isObject(value.config) ? value.config : ((value ?? {}) as object);
}

/** `image_orientation` is not an argument in KerasHub, so it is stored next to the configuration. */
function converterConfig(value: unknown): object {
  const {image_orientation: imageOrientation} = value as {image_orientation?: unknown};
  return {...configOf(value), ...(imageOrientation !== undefined && {imageOrientation})};
}

/** The arguments of a preprocessor, with the configurations of its tokenizer and its image converter. */
export function storedArguments(config: object) {
  const {dtype: _d, trainable: _r, configFile: _c, tokenizer, imageConverter, ...rest} = camelKeys(config);
  return {
    rest,
    tokenizer: configOf(tokenizer),
    imageConverter: imageConverter ? converterConfig(imageConverter) : null,
  };
}
