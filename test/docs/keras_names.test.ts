/**
 * Every public name of KerasHub's Gemma 3 classes is here: in camelCase, under the name that docs/keras_names.md gives,
 * or listed there with the reason why it is not.
 */
import * as api from '../../src';
import {camelKeys} from '../../src/base/casing';
import {fixtureJson} from '../support/fixtures';
import {proseOf} from './documents';
import {type Face, publicFaces} from './public_face';

interface KerasClass {
  bases: string[];
  arguments: string[];
  methods: Record<string, string[]>;
  properties: string[];
}

const {classes} = fixtureJson<{classes: Record<string, KerasClass>}>('keras_names.json');

const camel = (name: string) => Object.keys(camelKeys({[name]: 0}))[0]!;

/** `Class(argument)`, `Class.member` and `Class.method(argument)` of all classes. */
const NAMES = Object.entries(classes).flatMap(([name, face]) => [
  ...face.arguments.map(argument => `${name}(${argument})`),
  ...face.properties.map(property => `${name}.${property}`),
  ...Object.entries(face.methods).flatMap(([method, args]) => [
    `${name}.${method}`,
    ...args.map(argument => `${name}.${method}(${argument})`),
  ]),
]);

/** The rows of a table under a heading: the first cell's names, and the second cell. */
function rows(heading: string): [name: string, text: string][] {
  const section = proseOf('docs/keras_names.md')
    .split(/^## /m)
    .find(text => text.startsWith(`${heading}\n`))!;
  const lines = [...section.matchAll(/^\| (`.*?) \| (.*?) \|(?: .* \|)?$/gm)];
  return lines.flatMap(([, cell, text]) =>
    [...cell!.matchAll(/`([^`]+)`/g)].map(([, name]) => [name!, text!] as [string, string]),
  );
}

const renamed = new Map(rows('Under another name'));
const absent = new Map(rows('Not here'));
const faces = publicFaces();

const MODELS = ['Gemma3Backbone', 'Gemma3CausalLM', 'Gemma3TextEmbedder', 'Gemma3VisionEncoder'];
const TASKS = ['Gemma3CausalLM', 'Gemma3TextEmbedder'];

/** Our classes that stand for a base class: what it gives to others is looked up on those. */
const OURS: Record<string, string[]> = {
  'keras.Layer': ['Layer'],
  'keras.Model': MODELS,
  PipelineModel: TASKS,
  PreprocessingLayer: ['Gemma3Tokenizer', 'Gemma3ImageConverter', 'Gemma3CausalLMPreprocessor'],
  Backbone: ['Gemma3Backbone'],
  Task: TASKS,
  CausalLM: ['Gemma3CausalLM'],
  TextEmbedder: ['Gemma3TextEmbedder'],
  Preprocessor: ['Gemma3CausalLMPreprocessor', 'Gemma3TextEmbedderPreprocessor'],
  CausalLMPreprocessor: ['Gemma3CausalLMPreprocessor'],
  TextEmbedderPreprocessor: ['Gemma3TextEmbedderPreprocessor'],
  Tokenizer: ['Gemma3Tokenizer'],
};
const oursOf = (name: string): Face[] => (OURS[name] ?? [name]).map(one => faces.get(one)!);

const PATTERN = /^([\w.]*?\w)(?:\.(\w+))?(?:\((\w+)\))?$/;

function parts(name: string) {
  const framework = /^keras\.(Layer|Model)/.exec(name)?.[0];
  const [, cls, member, argument] = PATTERN.exec(framework ? name.replace('keras.', '') : name)!;
  return {cls: framework ?? cls!, member, argument};
}

/** Whether a class has a name: `member`, `(argument)` or `method(argument)`. */
function has(face: Face, member: string | undefined, argument: string | undefined, position = Infinity): boolean {
  if (member === undefined) return face.arguments.has(argument!);
  const found = face.members.get(member);
  if (!found) return false;
  return argument === undefined || found.names.has(argument) || position < found.positions;
}

/** Whether a name is here in camelCase. An argument may also be at the same position. */
function isHere(name: string): boolean {
  const {cls, member, argument} = parts(name);
  const position = member && argument ? classes[cls]!.methods[member]!.indexOf(argument) : Infinity;
  const ours = oursOf(cls);
  return (
    ours.length > 0 &&
    ours.every(face => face && has(face, member && camel(member), argument && camel(argument), position))
  );
}

/** The method that an argument belongs to. */
const methodOf = (name: string) => name.replace(/\(.*/, '');
const listed = (table: ReadonlyMap<string, string>, name: string) =>
  table.has(name) || (name.includes('.') && table.has(methodOf(name))) || table.has(parts(name).cls);

test('the list has all classes', () => {
  expect(Object.keys(classes).length).toBeGreaterThan(30);
  expect(NAMES.length).toBeGreaterThan(600);
});

test('every name of KerasHub is here, or listed', () => {
  expect(NAMES.filter(name => !listed(renamed, name) && !listed(absent, name) && !isHere(name))).toEqual([]);
});

test('a name that is listed as missing is not here', () => {
  const stale = [...absent.keys()].filter(name => {
    const {member} = parts(name);
    // Some of our models have it, and the row says which.
    return (
      oursOf(parts(name).cls).every(face => member === undefined || face.members.has(camel(member))) && isHere(name)
    );
  });
  expect(stale).toEqual([]);
});

test('every row is about a name of KerasHub', () => {
  expect([...renamed.keys(), ...absent.keys()].filter(name => !NAMES.includes(name))).toEqual([]);
});

test('the other names exist', () => {
  const missing = [...renamed].flatMap(([name, text]) => {
    const tokens = [...text.matchAll(/`(\w+)(?:\((\w+)\))?`/g)];
    if (!tokens.length) return [`${name}: no name`];
    return tokens
      .filter(([, member, argument]) => !oursOf(parts(name).cls).every(face => has(face, member, argument)))
      .map(([token]) => `${name}: ${token}`);
  });
  expect(missing).toEqual([]);
});

test('classes are derived as in KerasHub, and public where they are public there', () => {
  const internal = ['PipelineModel', 'PreprocessingLayer'];
  const wrong = Object.entries(classes)
    .filter(([name]) => !name.startsWith('keras.') && !internal.includes(name))
    .flatMap(([name, {bases}]) => {
      const face = faces.get(name);
      if (!face) return [`${name} is missing`];
      return bases
        .filter(base => !internal.includes(base) && !face.bases.has(base))
        .map(base => `${name} is no ${base}`);
    });
  expect(wrong).toEqual([]);
  const bases = ['Backbone', 'CausalLM', 'CausalLMPreprocessor', 'ImageConverter', 'Preprocessor'];
  const more = ['SentencePieceTokenizer', 'Task', 'TextEmbedder', 'TextEmbedderPreprocessor', 'Tokenizer'];
  expect([...bases, ...more].filter(name => !(name in api))).toEqual([]);
});
