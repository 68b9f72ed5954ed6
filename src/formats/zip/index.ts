/** Zip archives, read by byte ranges. */
export {ZipFile} from './zip_file';
