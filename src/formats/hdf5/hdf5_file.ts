/** Reads HDF5 files: the tree of groups, datasets and attributes. */
import {type ByteSource} from '../../base/byte_source';
import {type Hdf5AttributeValue, readAttribute} from './attributes';
import {BlockReader} from './block_reader';
import {ChunkCache} from './chunks';
import {forEachConcurrently} from './concurrent';
import {type Hdf5Dataset, isDataset, readDataset} from './dataset';
import {damagedFile, UnsupportedFeature, unsupportedFeature} from './errors';
import {Claims, isGroup, type Link, readLinks} from './links';
import {MessageType, readObjectHeader} from './object_header';
import {readSuperblock} from './superblock';

/** Maximum number of groups and datasets in a file. The largest models have about ten thousand. */
const OBJECT_LIMIT = 200_000;

/** Maximum nesting of groups. Keras nests one group per nested layer. */
const DEPTH_LIMIT = 200;

interface Tree {
  /** Addresses of the object headers of groups and datasets by path; the root is ''. */
  readonly objects: Map<string, number>;
  /** Datasets by path, or the reason why one cannot be read. */
  readonly datasets: Map<string, Hdf5Dataset | string>;
}

/**
 * An HDF5 file as Keras 3 writes `model.weights.h5`, read by byte ranges.
 *
 * The tree of groups is read once, on opening; data is read on request. Files that h5py writes with its usual options
 * are read as well: chunks, gzip, lzf, shuffle, fletcher32, order of creation, user blocks, libver="latest". Datasets
 * of other kinds, such as big-endian ones, are listed, but requesting one throws an error that says why it cannot be
 * read.
 */
export class Hdf5File {
  private constructor(
    private readonly source: ByteSource,
    private readonly end: number,
    private readonly tree: Tree,
  ) {}

  /**
   * Reads the tree of groups. The returned file owns `source`. If opening fails, `source` is closed.
   *
   * @throws if the source is not HDF5, is truncated or damaged, or stores groups in a way this reader does not support.
   */
  static async open(source: ByteSource): Promise<Hdf5File> {
    try {
      const {source: rest, root, end} = await readSuperblock(source);
      const tree = await readTree(rest, new BlockReader(rest, end), root);
      return new Hdf5File(rest, end, tree);
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  /** Its name in error messages: the path or address of the source. */
  get name(): string {
    return this.source.name;
  }

  /**
   * The dataset at a path such as "layers/rms_normalization/vars/0", or undefined if there is none.
   *
   * @throws if the dataset exists but this reader cannot read it.
   */
  dataset(path: string): Hdf5Dataset | undefined {
    const found = this.tree.datasets.get(path);
    if (typeof found === 'string') throw new Error(found);
    return found;
  }

  /** The paths of all datasets, sorted, including those that cannot be read. */
  paths(): string[] {
    return [...this.tree.datasets.keys()].sort();
  }

  /**
   * An attribute of a group or dataset, such as the "name" that Keras stores in a layer's group; '' is the root group.
   *
   * @returns undefined if the object has no such attribute.
   * @throws if there is no such object, or the attribute is neither numbers nor strings.
   */
  async attribute(path: string, name: string): Promise<Hdf5AttributeValue | undefined> {
    const address = this.tree.objects.get(path);
    if (address === undefined) {
      throw new Error(
        `Expected the path of a group or dataset in "${this.name}". Received: "${path}", which is not in the file. ` +
          `Paths are names joined with "/", without a leading "/".`,
      );
    }
    const reader = new BlockReader(this.source, this.end);
    return readAttribute(reader, await readObjectHeader(reader, address), name, `object "${path}"`);
  }

  /** Closes the source; afterwards no dataset can be read. */
  async close(): Promise<void> {
    await this.source.close();
  }
}

interface Pending {
  readonly path: string;
  readonly address: number;
  /** Addresses of the groups that lead to the object. */
  readonly above: readonly number[];
}

/** The parts of the file that all objects are read from. */
interface Context {
  readonly source: ByteSource;
  readonly reader: BlockReader;
  readonly claims: Claims;
  /** Links of the groups read so far, by address: several links may lead to one group. */
  readonly links: Map<number, Promise<Link[]>>;
  readonly chunks: ChunkCache;
}

/** Walks all groups breadth-first, because the objects of one level can be read at the same time. */
async function readTree(source: ByteSource, reader: BlockReader, root: number): Promise<Tree> {
  const tree: Tree = {objects: new Map(), datasets: new Map()};
  const context = {source, reader, claims: new Claims(), links: new Map(), chunks: new ChunkCache()};
  let level: Pending[] = [{path: '', address: root, above: []}];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEPTH_LIMIT) throw damagedFile(source.name, `groups at most ${DEPTH_LIMIT} deep`, 'deeper ones');
    const next: Pending[] = [];
    await forEachConcurrently(level, async object => {
      const above = [...object.above, object.address];
      for (const link of await readObject(context, object, tree)) {
        const path = object.path === '' ? link.name : `${object.path}/${link.name}`;
        if (typeof link.target === 'number') {
          // A link to a parent group forms a cycle, and leads to nothing that is not found anyway.
          if (!above.includes(link.target)) next.push({path, address: link.target, above});
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

/** Adds one object to the tree and returns its links. */
async function readObject(context: Context, {path, address}: Pending, tree: Tree): Promise<Link[]> {
  const {source, reader, claims, links, chunks} = context;
  if (tree.objects.has(path)) throw damagedFile(source.name, 'distinct names in a group', `"${path}" twice`);
  tree.objects.set(path, address);
  const known = links.get(address);
  if (known) return known;
  const header = await readObjectHeader(reader, address);
  if (isGroup(header)) {
    const subject = path === '' ? 'root group' : `group "${path}"`;
    const found = links.get(address) ?? readLinks(reader, header, claims, subject);
    links.set(address, found);
    return found;
  }
  if (path === '') throw damagedFile(source.name, 'a root group', 'an object that is not a group');
  if (isDataset(header)) {
    try {
      tree.datasets.set(path, await readDataset(source, reader, header, path, chunks));
    } catch (error) {
      if (!(error instanceof UnsupportedFeature)) throw error;
      tree.datasets.set(path, error.message);
    }
    return [];
  }
  // A named datatype is harmless; weights do not use it.
  if (header.has(MessageType.Datatype)) return [];
  throw damagedFile(source.name, `a group or dataset at "${path}"`, `neither, in the object header at byte ${address}`);
}
