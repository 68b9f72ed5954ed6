/** The names and links of one old-style group: a local heap, symbol table nodes, and a B-tree above these. */
import {aligned, FieldWriter} from './field_writer';

/** Half the capacity of a symbol table node and of a B-tree node. The superblock states both. */
export const LEAF_K = 4;
export const INTERNAL_K = 16;

const ENTRY = 40;
const NODE_SIZE = 8 + 2 * LEAF_K * ENTRY;
const TREE_SIZE = 24 + (2 * INTERNAL_K + 1) * 8 + 2 * INTERNAL_K * 8;
const HEAP_HEADER = 32;
/** Marks the heap's list of free blocks as empty. */
const NO_FREE_PIECE = 1;

/** An object in a group, with the addresses of its header and, for a group, of its B-tree and heap. */
export interface GroupEntry {
  readonly name: string;
  readonly header: number;
  readonly group?: {readonly tree: number; readonly heap: number};
}

const byBytes = (a: Uint8Array, b: Uint8Array) => {
  for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
};

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({length: Math.ceil(items.length / size)}, (_, i) => items.slice(i * size, (i + 1) * size));
}

/** An entry of a symbol table. The superblock contains one for the root group. */
export function symbolEntry(name: number, {header, group}: Omit<GroupEntry, 'name'>): Uint8Array {
  const writer = new FieldWriter()
    .u64(name)
    .u64(header)
    .u32(group ? 1 : 0)
    .u32(0);
  return (group ? writer.u64(group.tree).u64(group.heap) : writer.zeros(16)).bytes;
}

/** A child of a tree node, and the heap offset of the last name below it. */
interface Child {
  readonly address: number;
  readonly lastName: number;
}

/**
 * The parts of a group. Sizes and positions depend only on the names in the group; `bytes` fills in the contents once
 * all addresses are known.
 */
export class GroupTable {
  /** Names sorted by their bytes, as in the tree. */
  private readonly names: {name: string; bytes: Uint8Array; offset: number}[];
  private readonly heapSize: number;
  private readonly nodeCount: number;
  /** Number of tree nodes per level, from the lowest one up to the root. */
  private readonly levels: number[];

  constructor(names: readonly string[]) {
    const encoder = new TextEncoder();
    const sorted = names.map(name => ({name, bytes: encoder.encode(name)})).sort((a, b) => byBytes(a.bytes, b.bytes));
    let at = 8; // the heap starts with an empty name, the first key of every tree
    this.names = sorted.map(({name, bytes}) => {
      const offset = at;
      at += aligned(bytes.length + 1);
      return {name, bytes, offset};
    });
    this.heapSize = at;
    this.nodeCount = Math.ceil(names.length / (2 * LEAF_K));
    this.levels = [Math.max(1, Math.ceil(this.nodeCount / (2 * INTERNAL_K)))];
    while (this.levels.at(-1)! > 1) this.levels.push(Math.ceil(this.levels.at(-1)! / (2 * INTERNAL_K)));
  }

  private get treeCount(): number {
    return this.levels.reduce((a, b) => a + b, 0);
  }

  /** Total bytes of all parts. */
  get size(): number {
    return this.treeCount * TREE_SIZE + HEAP_HEADER + this.heapSize + this.nodeCount * NODE_SIZE;
  }

  /** The root is the last node of the tree, because levels are laid out from the lowest one up. */
  place(address: number): {tree: number; heap: number} {
    const heap = address + this.treeCount * TREE_SIZE;
    return {tree: heap - TREE_SIZE, heap};
  }

  /** The bytes of all parts at `address`. */
  bytes(address: number, entries: ReadonlyMap<string, Omit<GroupEntry, 'name'>>): Uint8Array {
    const {heap} = this.place(address);
    const firstNode = heap + HEAP_HEADER + this.heapSize;
    const groups = chunks(this.names, 2 * LEAF_K);
    let children: Child[] = groups.map((names, i) => {
      return {address: firstNode + i * NODE_SIZE, lastName: names.at(-1)!.offset};
    });

    const writer = new FieldWriter();
    let at = address;
    this.levels.forEach((count, level) => {
      const nodes = chunks(children, 2 * INTERNAL_K);
      if (nodes.length === 0) nodes.push([]);
      const first = at;
      let previousName = 0;
      children = nodes.map((node, i) => {
        const own = first + i * TREE_SIZE;
        const left = i > 0 ? own - TREE_SIZE : undefined;
        const right = i < count - 1 ? own + TREE_SIZE : undefined;
        const end = writer.length + TREE_SIZE;
        writer.text('TREE').u8(0, level).u16(node.length).address(left).address(right).u64(previousName);
        for (const child of node) writer.u64(child.address).u64(child.lastName);
        writer.zeros(end - writer.length);
        previousName = node.at(-1)?.lastName ?? 0;
        return {address: own, lastName: previousName};
      });
      at += count * TREE_SIZE;
    });

    writer
      .text('HEAP')
      .u32(0)
      .u64(this.heapSize)
      .u64(NO_FREE_PIECE)
      .u64(heap + HEAP_HEADER)
      .zeros(8);
    for (const {bytes} of this.names) writer.raw(bytes).u8(0).pad();

    for (const names of groups) {
      const end = writer.length + NODE_SIZE;
      writer.text('SNOD').u8(1, 0).u16(names.length);
      for (const {name, offset} of names) writer.raw(symbolEntry(offset, entries.get(name)!));
      writer.zeros(end - writer.length);
    }
    return writer.bytes;
  }
}
