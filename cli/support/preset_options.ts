/** Options that say how a preset is opened. */
import {type Command, Option} from 'commander';

/** Name and value of a header. */
export type Header = readonly [name: string, value: string];

export interface PresetOptions {
  header?: Header[];
  mmproj?: string;
}

/** `Name: value`, with the characters that a name may have. */
const HEADER = /^([\w!#$%&'*+.^`|~-]+):[ \t]*([^\r\n]*)$/;

/** Adds `--header`. Its value may be a password, so no message shows it. */
export function addHeaderOption(command: Command): Command {
  const parse = (text: string, previous: Header[] = []): Header[] => {
    const [, name, value] = HEADER.exec(text) ?? [];
    if (name !== undefined && value !== undefined) return [...previous, [name, value]];
    return command.error(`error: option '--header <header>' expected 'Name: value'.`, {exitCode: 2});
  };
  const what = "header of requests for a preset at an address or on a hub, 'Name: value'; may be repeated";
  return command.addOption(new Option('--header <header>', what).argParser(parse));
}

/** Adds `--mmproj`, and `--header`. */
export function addOpeningOptions(command: Command): Command {
  command.option('--mmproj <file>', 'the vision encoder of a GGUF file (default: the mmproj file next to it)');
  return addHeaderOption(command);
}

/** The options of `fromPreset` that correspond to these options. */
export const openingOf = ({header, mmproj}: PresetOptions): {headers?: [string, string][]; mmproj?: string} => ({
  ...(header && {headers: header.map(([name, value]): [string, string] => [name, value])}),
  ...(mmproj !== undefined && {mmproj}),
});

/** The headers for another file, which are sent only if the preset is on the same server. */
export function headersFor(file: string, preset: string, {header}: PresetOptions): {headers?: [string, string][]} {
  const server = serverOf(file);
  return header && server !== undefined && server === serverOf(preset) ? openingOf({header}) : {};
}

const serverOf = (text: string): string | undefined =>
  /^https?:\/\//i.test(text) && URL.canParse(text) ? new URL(text).origin : /^(?!file:)\w+:\/\//i.exec(text)?.[0];
