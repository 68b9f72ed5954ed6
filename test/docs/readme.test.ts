/** The examples of README.md, against the types of the sources. They are not run: their presets are large. */
import {readFileSync} from 'node:fs';
import {join, resolve} from 'node:path';
import ts from 'typescript';

const ROOT = resolve(__dirname, '../..');

/** Fenced blocks of TypeScript, with the line in README.md where each begins. */
const blocks = [...readFileSync(join(ROOT, 'README.md'), 'utf8').matchAll(/^```ts\n([^]*?)^```$/gm)].map(match => ({
  code: match[1]!,
  line: match.input.slice(0, match.index).split('\n').length + 1,
}));

/** Errors of types and syntax in some files that exist in memory alone, as `line: message` each. */
function errorsIn(files: Record<string, string>): Record<string, string[]> {
  const file = ts.readConfigFile(join(ROOT, 'tsconfig.json'), path => ts.sys.readFile(path));
  const {options} = ts.parseJsonConfigFileContent({...file.config, include: [], files: []}, ts.sys, ROOT);
  // A reader may leave a result unused, and a block may import nothing.
  Object.assign(options, {noUnusedLocals: false, moduleDetection: ts.ModuleDetectionKind.Force, types: ['node']});
  const host = ts.createCompilerHost(options);
  const {getSourceFile, fileExists, readFile} = host;
  host.getSourceFile = (path, target) =>
    path in files ? ts.createSourceFile(path, files[path]!, target) : getSourceFile.call(host, path, target);
  host.fileExists = path => path in files || fileExists.call(host, path);
  host.readFile = path => files[path] ?? readFile.call(host, path);
  const program = ts.createProgram(Object.keys(files), options, host);
  const errors = Object.keys(files).map(path => {
    const source = program.getSourceFile(path)!;
    // Of these files alone: checking the whole program takes much longer, and is what `npm run typecheck` does.
    const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
    return [
      path,
      found.map(({start = 0, messageText}) => {
        const {line} = source.getLineAndCharacterOfPosition(start);
        return `${line}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
      }),
    ];
  });
  return Object.fromEntries(errors) as Record<string, string[]>;
}

test('the examples of README.md compile, and what is wrong would be found', () => {
  expect(blocks.length).toBeGreaterThan(1);
  const name = (line: number | string) => join(ROOT, `README.md.${line}.ts`);
  const wrong =
    "import {Gemma3Backbone} from 'tfjs-gemma3';\nawait Gemma3Backbone.fromPreset('x', {loadWeight: false});\n";
  const files = Object.fromEntries(blocks.map(({code, line}) => [name(line), code]));
  const errors = errorsIn({...files, [name('wrong')]: wrong});
  expect(errors[name('wrong')]).toEqual([expect.stringMatching(/^1: .*'loadWeight' does not exist/)]);
  delete errors[name('wrong')];
  expect(errors).toEqual(Object.fromEntries(blocks.map(({line}) => [name(line), []])));
});
