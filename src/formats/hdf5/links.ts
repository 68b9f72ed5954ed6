/** Links of groups: names that point to objects. */
import {type BlockReader} from './block_reader';
import {readBTree2} from './btree2';
import {forEachConcurrently} from './concurrent';
import {type Cursor} from './cursor';
import {damagedFile} from './errors';
import {FractalHeap} from './fractal_heap';
import {MessageType, type ObjectHeader} from './object_header';

/** One entry of a group. */
export interface Link {
  readonly name: string;
  /** Address of the object header, or the kind of link if it does not point to an object of this file. */
  readonly target: number | 'soft link' | 'external link';
}

/** Addresses of structures that have one owner each. Meeting one twice means that links or trees form a loop. */
export class Claims {
  private readonly taken = new Set<number>();

  claim(file: string, what: string, address: number): void {
    if (this.taken.has(address)) throw damagedFile(file, `${what} to be linked once`, 'a loop, or a second link to it');
    this.taken.add(address);
  }
}

/** Whether the object is a group. */
export function isGroup(header: ObjectHeader): boolean {
  return header.has(MessageType.SymbolTable) || header.has(MessageType.LinkInfo) || header.has(MessageType.Link);
}

/** The entries of a group: old style (symbol table), or new style with the links in its header. */
export async function readLinks(
  reader: BlockReader,
  header: ObjectHeader,
  claims: Claims,
  subject: string,
): Promise<Link[]> {
  const table = header.first(MessageType.SymbolTable, subject);
  if (table) return readSymbolTable(reader, table, claims);
  const info = header.first(MessageType.LinkInfo, subject);
  if (info) {
    info.skip(1);
    const flags = info.u8();
    if (flags & 1) info.skip(8);
    const heap = info.address();
    if (heap !== undefined) return readDenseLinks(reader, heap, info.definedAddress('an index of names'), subject);
  }
  return header.all(MessageType.Link, subject).map(readLinkMessage);
}

function readLinkMessage(message: Cursor): Link {
  const version = message.u8();
  if (version !== 1) throw message.damaged('version 1 of a link', `version ${version}`);
  const flags = message.u8();
  const kind = flags & 0x08 ? message.u8() : 0;
  if (flags & 0x04) message.skip(8);
  if (flags & 0x10) message.skip(1);
  const name = checkName(message, message.text(message.unsigned(1 << (flags & 3))));
  if (kind === 0) return {name, target: message.definedAddress(`"${name}"`)};
  return {name, target: kind === 1 ? 'soft link' : 'external link'};
}

/** Links in a heap, with an index of their names: groups of more than 8 links, unless they have a symbol table. */
async function readDenseLinks(reader: BlockReader, heap: number, index: number, subject: string): Promise<Link[]> {
  const ids: Cursor[] = [];
  await readBTree2(reader, index, 5, record => {
    record.skip(4); // hash of the name
    ids.push(record);
  });
  const objects = await FractalHeap.open(reader, heap, subject);
  const links: Link[] = [];
  await forEachConcurrently(ids, async id => {
    links.push(readLinkMessage(await objects.object(id)));
  });
  return links;
}

async function readSymbolTable(reader: BlockReader, message: Cursor, claims: Claims): Promise<Link[]> {
  const tree = message.definedAddress('a B-tree');
  const heapAddress = message.definedAddress('a local heap');
  const heap = await reader.read(heapAddress, 32, 'local heap');
  claims.claim(heap.file, heap.what, heapAddress);
  heap.signature('HEAP');
  heap.skip(4);
  const length = heap.u64();
  heap.skip(8);
  const names = await reader.read(heap.definedAddress('the names of a group'), length, 'local heap segment');
  const links: Link[] = [];
  await readTreeNode(reader, tree, undefined, names, claims, links);
  return links;
}

/** Collects the links below a node of a version 1 B-tree. Levels must decrease by one, which bounds the depth. */
async function readTreeNode(
  reader: BlockReader,
  address: number,
  expectedLevel: number | undefined,
  names: Cursor,
  claims: Claims,
  links: Link[],
): Promise<void> {
  const node = await reader.read(address, 24, 'B-tree node');
  claims.claim(node.file, node.what, address);
  node.signature('TREE');
  const type = node.u8();
  if (type !== 0) throw node.damaged('a node of a group (type 0)', `type ${type}`);
  const level = node.u8();
  if (expectedLevel !== undefined && level !== expectedLevel) {
    throw node.damaged(`level ${expectedLevel}`, `level ${level}`);
  }
  const count = node.u16();
  // Each child follows its key. The extra key after the last child is not needed.
  const entries = await reader.read(address + 24, count * 16, 'B-tree node entries');
  const children: number[] = [];
  for (let i = 0; i < count; i++) {
    entries.skip(8);
    children.push(entries.definedAddress('a child'));
  }
  await forEachConcurrently(children, async child => {
    if (level > 0) await readTreeNode(reader, child, level - 1, names, claims, links);
    else await readSymbolNode(reader, child, names, claims, links);
  });
}

async function readSymbolNode(
  reader: BlockReader,
  address: number,
  names: Cursor,
  claims: Claims,
  links: Link[],
): Promise<void> {
  const node = await reader.read(address, 8, 'symbol table node');
  claims.claim(node.file, node.what, address);
  node.signature('SNOD');
  const version = node.u8();
  if (version !== 1) throw node.damaged('version 1', `version ${version}`);
  node.skip(1);
  const count = node.u16();
  const entries = await reader.read(address + 8, count * 40, 'symbol table node entries');
  for (let i = 0; i < count; i++) {
    const name = readName(names, entries.u64());
    const target = entries.address();
    const cacheType = entries.u32();
    entries.skip(20);
    if (cacheType === 2) links.push({name, target: 'soft link'});
    else if (target === undefined) throw entries.damaged(`the address of "${name}"`, 'the undefined address');
    else links.push({name, target});
  }
}

function readName(names: Cursor, offset: number): string {
  const end = offset < names.bytes.length ? names.bytes.indexOf(0, offset) : -1;
  if (end < 0) throw names.damaged(`a name at position ${offset}`, `a segment of ${names.bytes.length} bytes`);
  names.position = offset;
  return checkName(names, names.text(end - offset));
}

/** Refuses names that HDF5 never writes: empty ones, and those that look like a path. */
function checkName(cursor: Cursor, name: string): string {
  if (name === '' || name === '.' || name.includes('/')) throw cursor.damaged('the name of a link', `"${name}"`);
  return name;
}
