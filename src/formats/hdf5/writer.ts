/** Writes HDF5 files as h5py does for Keras: old-style groups, contiguous datasets, no compression. */
import {type ByteSink} from '../../base/byte_sink';
import {ValueError} from '../../base/errors';
import {sizeOf} from '../../base/shapes';
import {aligned, FieldWriter} from './field_writer';
import {type Hdf5Dtype} from './datatype';
import {GroupTable, INTERNAL_K, LEAF_K, symbolEntry} from './writer_group';
import {GlobalHeap} from './writer_heap';
import {
  attributeMessages,
  type Attributes,
  datasetMessages,
  itemSize,
  objectHeader,
  symbolTableMessage,
} from './writer_messages';

export {type Attributes, type AttributeValue, itemSize} from './writer_messages';

/** An array to write. */
export interface DatasetContent {
  /** Empty for a scalar. */
  readonly shape: readonly number[];
  readonly dtype: Hdf5Dtype;
  /**
   * The little-endian bytes in pieces, of the total size that follows from shape and dtype. Called when the writer
   * reaches the dataset. One array may be reused for all pieces.
   */
  data(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

interface Group {
  readonly children: Map<string, Group | Dataset>;
  attributes: Attributes;
}
interface Dataset extends DatasetContent {
  readonly path: string;
  readonly attributes: Attributes;
}

const isGroup = (node: Group | Dataset): node is Group => 'children' in node;
const byteLength = ({shape, dtype}: DatasetContent) => sizeOf(shape) * itemSize(dtype);

const SUPERBLOCK = 96;

/**
 * A file to write. First declare groups and datasets with their shapes. Then `writeTo` lays out the file and writes it
 * from start to end, requesting the values of each dataset when it reaches it.
 */
export class Hdf5Writer {
  private readonly root: Group = {children: new Map(), attributes: {}};

  /** Adds a group and its parents. Attributes are added to existing ones. */
  group(path: string, attributes?: Attributes): this {
    const group = this.groupAt(path.split('/').filter(Boolean));
    if (attributes) group.attributes = {...group.attributes, ...attributes};
    return this;
  }

  /**
   * Adds a dataset and its parent groups. For bfloat16 it adds the attribute by which Keras recognizes it.
   *
   * @throws ValueError if the name is already taken.
   */
  dataset(path: string, content: DatasetContent, attributes: Attributes = {}): this {
    const names = path.split('/').filter(Boolean);
    const name = names.pop();
    const group = this.groupAt(names);
    if (name === undefined || group.children.has(name)) {
      throw new ValueError(`Expected a name that is not in the file yet. Received: "${path}".`);
    }
    const {shape, dtype} = content;
    const known = dtype === 'bfloat16' ? {dtype: 'bfloat16', ...attributes} : attributes;
    group.children.set(name, {path, shape, dtype, data: () => content.data(), attributes: known});
    return this;
  }

  private groupAt(names: readonly string[]): Group {
    let group = this.root;
    for (const name of names) {
      let next = group.children.get(name);
      if (!next) group.children.set(name, (next = {children: new Map(), attributes: {}}));
      if (!isGroup(next))
        throw new ValueError(`Expected "${name}" of "${names.join('/')}" to be a group, not a dataset.`);
      group = next;
    }
    return group;
  }

  /**
   * Writes the file; the sink stays open.
   *
   * @throws Error if the pieces of a dataset have more or fewer bytes than its shape requires.
   */
  async writeTo(sink: ByteSink): Promise<void> {
    const {head, datasets} = new Layout(this.root);
    await sink.write(head);
    for (const dataset of datasets) {
      const wanted = byteLength(dataset);
      let written = 0;
      for await (const piece of dataset.data()) {
        written += piece.length;
        if (written > wanted) break;
        if (piece.length > 0) await sink.write(piece);
      }
      if (written !== wanted) {
        throw new Error(
          `The dataset "${dataset.path}" of "${sink.name}" has shape [${dataset.shape}] of ${dataset.dtype}: ` +
            `expected ${wanted} bytes. Received: ${written > wanted ? 'more' : written}.`,
        );
      }
      const padding = aligned(wanted) - wanted;
      if (padding > 0) await sink.write(new Uint8Array(padding));
    }
  }
}

/** Addresses of an object. */
interface Placed {
  readonly header: number;
  readonly group?: {readonly tree: number; readonly heap: number};
}

/**
 * The layout of the file: superblock, headers and tables of groups, headers of datasets, strings, and then the values
 * in the order of `datasets`.
 */
class Layout {
  readonly datasets: Dataset[] = [];
  /** Everything before the values. */
  readonly head: Uint8Array;
  private readonly placed = new Map<Group | Dataset, Placed>();
  private readonly tables = new Map<Group, GroupTable>();
  private next = SUPERBLOCK;

  constructor(root: Group) {
    this.placeGroup(root);
    // Strings come after everything placed so far, so their size does not move anything.
    const heap = new GlobalHeap(this.next);
    const attributes = new Map(
      [...this.placed.keys()].map(node => [node, attributeMessages(node.attributes, heap)] as const),
    );
    let at = this.next + heap.size;
    const parts: Uint8Array[] = [];
    for (const [node, {header, group}] of this.placed) {
      if (group) {
        parts.push(objectHeader([symbolTableMessage(group.tree, group.heap), ...attributes.get(node)!]));
        const {children} = node as Group;
        const entries = new Map([...children].map(([name, child]) => [name, this.placed.get(child)!]));
        parts.push(this.tables.get(node as Group)!.bytes(header + parts.at(-1)!.length, entries));
      } else {
        const {shape, dtype} = node as Dataset;
        const bytes = byteLength(node as Dataset);
        const address = bytes > 0 ? at : undefined;
        parts.push(objectHeader([...datasetMessages(shape, dtype, address, bytes), ...attributes.get(node)!]));
        at += aligned(bytes);
      }
    }
    const head = new FieldWriter().raw(superblock(this.placed.get(root)!, at));
    for (const part of parts) head.raw(part);
    this.head = head.raw(heap.bytes).bytes;
  }

  private placeGroup(group: Group): void {
    const table = new GroupTable([...group.children.keys()]);
    this.tables.set(group, table);
    const header = this.next;
    const end = header + headerSize(group, [symbolTableMessage(0, 0)]);
    this.placed.set(group, {header, group: table.place(end)});
    this.next = end + table.size;
    for (const child of group.children.values()) {
      if (isGroup(child)) {
        this.placeGroup(child);
      } else {
        this.datasets.push(child);
        this.placed.set(child, {header: this.next});
        this.next += headerSize(child, datasetMessages(child.shape, child.dtype, 0, 0));
      }
    }
  }
}

/** Size of a header in bytes, which does not depend on addresses. */
const headerSize = ({attributes}: Group | Dataset, messages: Parameters<typeof objectHeader>[0]) =>
  objectHeader([...messages, ...attributeMessages(attributes, new GlobalHeap(0))]).length;

function superblock(root: Placed, end: number): Uint8Array {
  return new FieldWriter()
    .raw([0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a])
    .zeros(5) // version 0 of all structures
    .u8(8, 8, 0) // addresses and lengths of 8 bytes
    .u16(LEAF_K)
    .u16(INTERNAL_K)
    .u32(0)
    .address(0)
    .address(undefined)
    .address(end)
    .address(undefined)
    .raw(symbolEntry(0, root)).bytes;
}
