/** What the classes of the sources offer to users: arguments, methods with their arguments, and properties. */
import {join} from 'node:path';
import ts from 'typescript';
import {ROOT} from '../support/fixtures';

/** The public names of a class, inherited ones included. */
export interface Face {
  /** Arguments of the constructor. */
  arguments: ReadonlySet<string>;
  /** Public members, also static ones. Methods have their arguments: those by position, and all by name. */
  members: ReadonlyMap<string, {positions: number; names: ReadonlySet<string>}>;
  /** The classes it derives from. */
  bases: ReadonlySet<string>;
}

const FOLDERS = ['src/models/', 'src/layers/'].map(folder => join(ROOT, folder));

/** Names of parameters that are objects with arguments by name. */
const OPTIONS = /^(args|options|config|kwargs|__\d+)$/;

const isPublic = (symbol: ts.Symbol) =>
  !(symbol.declarations ?? []).some(
    declaration => ts.getCombinedModifierFlags(declaration) & ts.ModifierFlags.NonPublicAccessibilityModifier,
  );

/** The classes in `src/models/` and `src/layers/`, by name. */
export function publicFaces(): Map<string, Face> {
  const {config} = ts.readConfigFile(join(ROOT, 'tsconfig.json'), path => ts.sys.readFile(path)) as {config: object};
  const {options} = ts.parseJsonConfigFileContent({...config, include: [], files: []}, ts.sys, ROOT);
  const program = ts.createProgram([join(ROOT, 'src/index.ts')], {...options, types: ['node']});
  const checker = program.getTypeChecker();

  /** Names of the properties of an object of arguments. */
  const keysOf = (type: ts.Type): string[] =>
    type.isUnion() ? type.types.flatMap(keysOf) : type.getProperties().map(({name}) => name);

  /** A parameter, or those of the tuple that a rest parameter stands for. */
  const parameterNames = (parameter: ts.Symbol): {name: string; type: ts.Type}[] => {
    const type = checker.getTypeOfSymbol(parameter);
    if (!checker.isTupleType(type)) return [{name: parameter.name, type}];
    const {labeledElementDeclarations: labels} = (type as ts.TypeReference).target as ts.TupleType;
    return checker
      .getTypeArguments(type as ts.TypeReference)
      .map((element, i) => ({name: (labels?.[i]?.name as ts.Identifier | undefined)?.text ?? `__${i}`, type: element}));
  };

  const parametersOf = (signatures: readonly ts.Signature[]) => {
    const names = new Set<string>();
    let positions = 0;
    for (const {parameters} of signatures) {
      const all = parameters.flatMap(parameterNames);
      for (const {name, type} of all) {
        names.add(name);
        if (OPTIONS.test(name)) keysOf(checker.getNonNullableType(type)).forEach(key => names.add(key));
      }
      positions = Math.max(positions, all.filter(({name}) => !OPTIONS.test(name)).length);
    }
    return {positions, names};
  };

  const faceOf = (declaration: ts.ClassDeclaration): Face => {
    const instance = checker.getTypeAtLocation(declaration);
    const constructor = checker.getTypeOfSymbol(checker.getSymbolAtLocation(declaration.name!)!);
    const members = new Map<string, ReturnType<typeof parametersOf>>();
    for (const symbol of [...constructor.getProperties(), ...instance.getProperties()]) {
      if (!isPublic(symbol)) continue;
      const signatures = checker.getTypeOfSymbol(symbol).getCallSignatures();
      members.set(symbol.name, parametersOf(signatures));
    }
    const bases = new Set<string>();
    const climb = (type: ts.Type) => {
      // A class with type parameters is a reference to its declaration.
      const {target = type} = type as Partial<ts.TypeReference> & ts.Type;
      for (const base of target.getBaseTypes() ?? []) {
        for (const part of base.isIntersection() ? base.types : [base]) {
          if (part.symbol) bases.add(part.symbol.name);
          climb(part);
        }
      }
    };
    climb(instance);
    return {arguments: parametersOf(constructor.getConstructSignatures()).names, members, bases};
  };

  const faces = new Map<string, Face>();
  for (const source of program.getSourceFiles()) {
    if (!FOLDERS.some(folder => source.fileName.startsWith(folder))) continue;
    ts.forEachChild(source, node => {
      if (ts.isClassDeclaration(node) && node.name) faces.set(node.name.text, faceOf(node));
    });
  }
  return faces;
}
