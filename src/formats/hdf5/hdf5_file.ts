import {type ByteSource} from '../../base/byte_source';
import {type Hdf5AttributeValue, readAttribute} from './attributes';
import {BlockReader} from './block_reader';
import {forEachConcurrently} from './concurrent';
import {type Hdf5Dataset, isDataset, readDataset} from './dataset';
import {damagedFile, UnsupportedFeature, unsupportedFeature} from './errors';
import {Claims, isGroup, type Link, readLinks} from './links';
import {MessageType, readObjectHeader} from './object_header';
import {readSuperblock} from './superblock';

/** Groups and datasets that are believed; the largest models have some ten thousand. */
const OBJECT_LIMIT = 200_000;

/** Nesting that is believed; Keras nests a group per layer of layers. */
const DEPTH_LIMIT = 200;

interface Tree {
  /** Addresses of the object headers of groups and datasets by path; the root is ''. */
  readonly objects: Map<string, number>;
  /** Readable datasets, or why one is not. */
  readonly datasets: Map<string, Hdf5Dataset | string>;
}

/**
 * An HDF5 file as Keras 3 writes `model.weights.h5`, read by byte ranges.
 *
 * The tree of groups is read once, when opening; the data only when asked for. Chunked, compressed and big-endian
 * datasets are listed, and asking for one says why it cannot be read.
 */
export class Hdf5File {
  private constructor(
    private readonly source: ByteSource,
    private readonly end: number,
    private readonly tree: Tree,
  ) {}

  /**
   * Reads the tree of groups. The file owns `source` from here on, and closes it also when opening fails.
   *
   * @throws if the source is not HDF5, is truncated or damaged, or keeps groups in a way this reader does not know.
   */
  static async open(source: ByteSource): Promise<Hdf5File> {
    try {
      const {root, end} = await readSuperblock(source);
      const tree = await readTree(source, new BlockReader(source, end), root);
      return new Hdf5File(source, end, tree);
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  /** What error messages call it: the path or address of the source. */
  get name(): string {
    return this.source.name;
  }

  /**
   * The dataset at a path such as "layers/rms_normalization/vars/0", or undefined if there is none.
   *
   * @throws if there is one that this reader cannot read.
   */
  dataset(path: string): Hdf5Dataset | undefined {
    const found = this.tree.datasets.get(path);
    if (typeof found === 'string') throw new Error(found);
    return found;
  }

  /** The paths of all datasets, also of those that cannot be read, sorted. */
  paths(): string[] {
    return [...this.tree.datasets.keys()].sort();
  }

  /**
   * An attribute of a group or dataset, such as the "name" that Keras gives to a layer's group; '' is the root group.
   *
   * @returns undefined if the object has no such attribute.
   * @throws if there is no such object, or the attribute is neither numbers nor strings.
   */
  async attribute(path: string, name: string): Promise<Hdf5AttributeValue | undefined> {
    const address = this.tree.objects.get(path);
    if (address === undefined) {
      throw new Error(
        `"${this.name}" has no such group or dataset: expected the path of one. Received: "${path}". ` +
          `Paths are names joined with "/", without a leading one.`,
      );
    }
    const reader = new BlockReader(this.source, this.end);
    return readAttribute(reader, await readObjectHeader(reader, address), name, `object "${path}"`);
  }

  /** Closes the source; datasets cannot be read afterwards. */
  async close(): Promise<void> {
    await this.source.close();
  }
}

interface Pending {
  readonly path: string;
  readonly address: number;
}

/** Walks all groups breadth-first: the objects of one level do not depend on each other. */
async function readTree(source: ByteSource, reader: BlockReader, root: number): Promise<Tree> {
  const tree: Tree = {objects: new Map(), datasets: new Map()};
  const claims = new Claims();
  let level: Pending[] = [{path: '', address: root}];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEPTH_LIMIT) throw damagedFile(source.name, `groups at most ${DEPTH_LIMIT} deep`, 'deeper ones');
    const next: Pending[] = [];
    await forEachConcurrently(level, async object => {
      for (const link of await readObject(source, reader, object, tree, claims)) {
        const path = object.path === '' ? link.name : `${object.path}/${link.name}`;
        if (typeof link.target === 'number') {
          next.push({path, address: link.target});
        } else {
          const error = unsupportedFeature(source.name, `dataset "${path}"`, 'a dataset', `a ${link.target}`);
          tree.datasets.set(path, error.message);
        }
      }
      if (tree.objects.size + next.length > OBJECT_LIMIT) {
        throw damagedFile(source.name, `at most ${OBJECT_LIMIT} groups and datasets`, 'more');
      }
    });
    level = next;
  }
  return tree;
}

/** Enters one object into the tree and returns what it links to. */
async function readObject(
  source: ByteSource,
  reader: BlockReader,
  {path, address}: Pending,
  tree: Tree,
  claims: Claims,
): Promise<Link[]> {
  if (tree.objects.has(path)) throw damagedFile(source.name, 'different names in a group', `"${path}" twice`);
  tree.objects.set(path, address);
  const header = await readObjectHeader(reader, address);
  if (isGroup(header)) {
    const subject = path === '' ? 'root group' : `group "${path}"`;
    claims.claim(reader.file, `the ${subject}`, address);
    return readLinks(reader, header, claims, subject);
  }
  if (path === '') throw damagedFile(source.name, 'a root group', 'an object that is not a group');
  if (isDataset(header)) {
    try {
      tree.datasets.set(path, await readDataset(source, reader, header, path));
    } catch (error) {
      if (!(error instanceof UnsupportedFeature)) throw error;
      tree.datasets.set(path, error.message);
    }
    return [];
  }
  // A named datatype is of no use to weights, and harmless.
  if (header.has(MessageType.Datatype)) return [];
  throw damagedFile(source.name, `a group or dataset at "${path}"`, `neither, in the object header at byte ${address}`);
}
