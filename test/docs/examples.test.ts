/**
 * The TypeScript examples of README.md and the guides: all are type-checked, and all that are not marked `browser` run,
 * in a folder where small presets stand for the large ones.
 */
import {copyFileSync, mkdtempSync, rmSync, symlinkSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import ts from 'typescript';
import {Gemma3Backbone, Gemma3CausalLM, Gemma3CausalLMPreprocessor, useBackend} from '../../src';
import {ROOT, tinyPicture} from '../support/fixtures';
import {codeBlocks, GUIDES} from './documents';

const blocks = GUIDES.flatMap(codeBlocks).filter(({language}) => language === 'ts');

// === Types ===

/** Errors of types and syntax in files that exist only in memory, as `line: message`. */
function errorsIn(files: Record<string, string>): Record<string, string[]> {
  const file = ts.readConfigFile(join(ROOT, 'tsconfig.json'), path => ts.sys.readFile(path));
  const {options} = ts.parseJsonConfigFileContent({...file.config, include: [], files: []}, ts.sys, ROOT);
  // An example may leave a result unused, and may import nothing.
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
    // Only these files: checking the whole program takes much longer, and `npm run typecheck` does it.
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

test('all examples compile, and a wrong one would be found', () => {
  expect(blocks.length).toBeGreaterThan(20);
  const name = (place: string) => join(ROOT, `${place}.ts`);
  const wrong =
    "import {Gemma3Backbone} from 'tfjs-gemma3';\nawait Gemma3Backbone.fromPreset('x', {loadWeight: false});\n";
  const files = Object.fromEntries(blocks.map(({code, place}) => [name(place), code]));
  const errors = errorsIn({...files, [name('wrong')]: wrong});
  expect(errors[name('wrong')]).toEqual([expect.stringMatching(/^1: .*'loadWeight' does not exist/)]);
  delete errors[name('wrong')];
  expect(errors).toEqual(Object.fromEntries(blocks.map(({place}) => [name(place), []])));
});

// === Runs ===

/** Presets that the examples name: all of them read text only. */
const TEXT_PRESETS = ['gemma3_270m', 'gemma3_instruct_1b', 'embedding_gemma3_300m'];
const PICTURES = {'picture.png': 'red_circle', 'second.png': 'yellow_ring', 'third.png': 'blue_square'};

/** Saves the packaged preset without its vision encoder. */
async function saveTextPreset(folder: string): Promise<void> {
  const {tokenizer, sequenceLength} = await Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny');
  const tiny = await Gemma3Backbone.fromPreset('gemma3_tiny', {dtype: 'float32'});
  const backbone = new Gemma3Backbone({...tiny.config, visionEncoder: null, imageSize: null});
  const byName = new Map(tiny.weights.map(weight => [weight.originalName, weight]));
  for (const weight of backbone.weights) weight.write(byName.get(weight.originalName)!.read());
  const lm = new Gemma3CausalLM({backbone, preprocessor: new Gemma3CausalLMPreprocessor({tokenizer, sequenceLength})});
  await lm.saveToPreset(folder, {dtype: 'bfloat16'});
  for (const model of [lm, backbone, tiny]) model.dispose();
}

const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => (...args: unknown[]) => Promise<void>;

/** Runs an example as a module: its imports are those of the sources. */
async function run(code: string): Promise<void> {
  const {outputText} = ts.transpileModule(code, {
    compilerOptions: {module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022, esModuleInterop: true},
  });
  await new AsyncFunction('require', 'exports', outputText)(require, {});
}

describe('examples run', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tfjs-gemma3-examples-'));
  const before = process.cwd();

  beforeAll(async () => {
    process.chdir(folder);
    await useBackend();
    await saveTextPreset('./text');
    for (const name of TEXT_PRESETS) symlinkSync('text', name);
    for (const [name, picture] of Object.entries(PICTURES)) copyFileSync(tinyPicture(picture), name);
  });
  afterAll(() => {
    process.chdir(before);
    rmSync(folder, {recursive: true});
  });

  beforeEach(() => {
    jest.spyOn(console, 'log').mockImplementation(() => {});
    jest.spyOn(process.stdout, 'write').mockImplementation(() => true);
  });
  afterEach(() => jest.restoreAllMocks());

  test.each(blocks.filter(({marks}) => !marks.includes('browser')).map(block => [block.place, block]))(
    '%s',
    async (place, {code}) => {
      const tensors = tf.memory().numTensors;
      await run(code);
      // Examples of the guides dispose everything they create; those of README.md are shorter.
      if (place.startsWith('docs/')) expect(tf.memory().numTensors).toBe(tensors);
    },
  );
});
