/** B-trees of version 2: records of a fixed size, in order. They index dense groups and chunks. */
import {type BlockReader} from './block_reader';
import {type Cursor} from './cursor';

/** Bytes of a node around its records: signature, version, type, checksum. */
const OVERHEAD = 10;

/** Maximum number of records. Files of models have some thousands. */
const RECORD_LIMIT = 4_000_000;

/** Number of bytes for a number up to `limit`. */
export const bytesFor = (limit: number): number => Math.floor(Math.log2(Math.max(limit, 1)) / 8) + 1;

interface Tree {
  readonly type: number;
  readonly nodeSize: number;
  readonly recordSize: number;
  /** Bytes of a number of records in a child pointer. */
  readonly countSize: number;
  /** Bytes of a total in a child pointer, by the depth of the child. */
  readonly totalSizes: readonly number[];
  readonly visited: Set<number>;
  read: number;
}

/**
 * Calls `visit` with each record of a tree, in order.
 *
 * @param type the kind of records, such as 5 for names of links.
 */
export async function readBTree2(
  reader: BlockReader,
  address: number,
  type: number,
  visit: (record: Cursor) => void,
): Promise<void> {
  const header = await reader.read(address, 38, 'B-tree header');
  header.signature('BTHD');
  const version = header.u8();
  if (version !== 0) throw header.damaged('version 0', `version ${version}`);
  const found = header.u8();
  if (found !== type) throw header.damaged(`records of type ${type}`, `type ${found}`);
  const [nodeSize, recordSize, depth] = [header.u32(), header.u16(), header.u16()];
  header.skip(2);
  const root = header.address();
  const count = header.u16();
  if (recordSize === 0 || nodeSize < OVERHEAD + recordSize) {
    throw header.damaged('nodes with room for a record', `nodes of ${nodeSize}, records of ${recordSize} bytes`);
  }
  if (depth > 16) throw header.damaged('a tree of at most 16 levels', `${depth}`);
  if (root === undefined || count === 0) return;
  let most = Math.floor((nodeSize - OVERHEAD) / recordSize);
  const countSize = bytesFor(most);
  // Leaves have no total.
  const totalSizes = [0];
  for (let level = 1, total = most; level <= depth; level++) {
    const pointer = 8 + countSize + totalSizes[level - 1]!;
    most = Math.floor((nodeSize - OVERHEAD - pointer) / (recordSize + pointer));
    total = (most + 1) * total + most;
    totalSizes.push(bytesFor(total));
  }
  const tree: Tree = {type, nodeSize, recordSize, countSize, totalSizes, visited: new Set(), read: 0};
  await readNode(reader, tree, root, count, depth, visit);
}

async function readNode(
  reader: BlockReader,
  tree: Tree,
  address: number,
  count: number,
  depth: number,
  visit: (record: Cursor) => void,
): Promise<void> {
  const node = await reader.read(address, tree.nodeSize, 'B-tree node');
  if (tree.visited.has(address)) throw node.damaged('nodes that are linked once', 'a loop');
  tree.visited.add(address);
  tree.read += count;
  if (tree.read > RECORD_LIMIT) throw node.damaged(`at most ${RECORD_LIMIT} records`, 'more');
  node.signature(depth > 0 ? 'BTIN' : 'BTLF');
  node.skip(1);
  const type = node.u8();
  if (type !== tree.type) throw node.damaged(`records of type ${tree.type}`, `type ${type}`);
  const records = Array.from({length: count}, () => node.part(tree.recordSize, `a record of ${node.what}`));
  if (depth === 0) return records.forEach(visit);
  const children = Array.from({length: count + 1}, () => {
    const child = node.definedAddress('a child');
    const size = node.uint(tree.countSize);
    node.skip(tree.totalSizes[depth - 1]!);
    return {child, size};
  });
  for (const [i, {child, size}] of children.entries()) {
    await readNode(reader, tree, child, size, depth - 1, visit);
    if (records[i]) visit(records[i]);
  }
}
