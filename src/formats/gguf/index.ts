/** GGUF files: metadata, tensors, and values of quantized tensors. */
export {type Dequantize, halfAt} from './blocks';
export {decoderOf, READABLE_TYPES} from './dequantize';
export {damaged} from './errors';
export {type GgufFile, type GgufTensor, isGguf, readGguf} from './gguf_file';
export {integerType, type IntegerType} from './integers';
export {encoderOf, integerWriterOf, type Quantize, WRITABLE_TYPES, type WriteIntegers} from './quantize';
export {type GgufArray, GgufStrings, type GgufValue, ValueType} from './metadata';
export {type TensorType, tensorType, tensorTypeId} from './tensor_types';
export {type GgufContent, GgufWriter, tensorBytes} from './writer';
