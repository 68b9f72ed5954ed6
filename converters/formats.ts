/** The formats that `convertPreset` writes: those of `src/checkpoints/all.ts` that have a writer. */
import {checkpointFormats} from '../src/checkpoints/all';
import {type CheckpointFormat, type CheckpointWriter} from '../src/checkpoints/checkpoint';

type Written = Extract<(typeof checkpointFormats)[number], {writer: CheckpointWriter}>;

/** Name of a format that `convertPreset` writes. */
export type ConversionFormat = Written['name'];

/** A dtype in which `convertPreset` can store weights; `conversionFormats` says which of them each format has. */
export type ConversionDtype = Written['writer']['dtypes'][number];

type Intersection<Union> = (Union extends unknown ? (value: Union) => void : never) extends (value: infer All) => void
  ? All
  : never;

/** The options of all writers. */
export type WriterOptions = Omit<Intersection<Parameters<Written['writer']['write']>[2]>, 'dtype' | 'file'>;

/** A format that `convertPreset` writes. */
export interface ConversionFormatInfo {
  name: ConversionFormat;
  /** Dtypes in which weights can be stored. */
  dtypes: readonly ConversionDtype[];
  /** Explains in errors why other dtypes are not written. */
  dtypesNote?: string;
  /** Names of the options that only some formats have, this one among them. */
  options: readonly string[];
}

const formats: readonly CheckpointFormat[] = checkpointFormats;

/** All formats that `convertPreset` writes. */
export const conversionFormats: readonly ConversionFormatInfo[] = formats.flatMap(({name, writer}) => {
  if (!writer) return [];
  const {dtypes, dtypesNote, options} = writer;
  return [
    {
      ...{name: name as ConversionFormat, dtypes: dtypes as ConversionDtype[], options},
      ...(dtypesNote !== undefined && {dtypesNote}),
    },
  ];
});

/** The writer of a format. */
export const writerOf = (name: ConversionFormat): CheckpointWriter =>
  formats.find(format => format.name === name)!.writer!;
