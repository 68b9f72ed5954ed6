/** HDF5 files as h5py writes them for Keras: reading by byte ranges, and writing. */
export {type Hdf5AttributeValue} from './attributes';
export {type Hdf5Dataset} from './dataset';
export {type Hdf5Dtype} from './datatype';
export {Hdf5File} from './hdf5_file';
export {type Attributes, type AttributeValue, type DatasetContent, Hdf5Writer} from './writer';
