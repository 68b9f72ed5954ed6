/** The formats that `convertPreset` writes: those of `src/checkpoints/all.ts` that have a writer. */
import {checkpointFormats} from '../src/checkpoints/all';
import {type CheckpointFormat, type CheckpointWriter} from '../src/checkpoints/checkpoint';
import {type WeightFormat} from '../src/weights/dtype';

type Written = Extract<(typeof checkpointFormats)[number], {writer: CheckpointWriter}>;

/** Name of a format that `convertPreset` writes. */
export type ConversionFormat = Written['name'];

type Intersection<Union> = (Union extends unknown ? (value: Union) => void : never) extends (value: infer All) => void
  ? All
  : never;

/** The options of all writers. */
export type WriterOptions = Intersection<Parameters<Written['writer']['write']>[2]>;

/** A format that `convertPreset` writes. */
export interface ConversionFormatInfo {
  name: ConversionFormat;
  /** Dtypes in which weights can be stored. */
  dtypes: readonly WeightFormat[];
  /** Explains in errors why other dtypes are not written. */
  dtypesNote?: string;
  /** Names of the options that only this format has. */
  options: readonly string[];
}

const formats: readonly CheckpointFormat[] = checkpointFormats;

/** All formats that `convertPreset` writes. */
export const conversionFormats: readonly ConversionFormatInfo[] = formats.flatMap(({name, writer}) => {
  if (!writer) return [];
  const {dtypes, dtypesNote, options} = writer;
  return [{name: name as ConversionFormat, dtypes, ...(dtypesNote !== undefined && {dtypesNote}), options}];
});

/** The writer of a format. */
export const writerOf = (name: ConversionFormat): CheckpointWriter =>
  formats.find(format => format.name === name)!.writer!;
