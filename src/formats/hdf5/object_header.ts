/** Object headers: the messages that describe a group or dataset. */
import {type BlockReader} from './block_reader';
import {type Cursor} from './cursor';
import {unsupportedFeature} from './errors';

/** Message types that this reader uses. */
export const MessageType = {
  Dataspace: 0x01,
  LinkInfo: 0x02,
  Datatype: 0x03,
  OldFillValue: 0x04,
  FillValue: 0x05,
  Link: 0x06,
  ExternalFiles: 0x07,
  Layout: 0x08,
  Filters: 0x0b,
  Attribute: 0x0c,
  Continuation: 0x10,
  SymbolTable: 0x11,
  AttributeInfo: 0x15,
} as const;

const SHARED_FLAG = 0x02;

/** Maximum number of messages of one object. Objects that Keras writes have about ten. */
const MESSAGE_LIMIT = 65_536;

interface Message {
  readonly type: number;
  readonly shared: boolean;
  readonly body: Cursor;
}

/** The messages that describe one group or dataset. */
export class ObjectHeader {
  constructor(
    readonly address: number,
    private readonly messages: readonly Message[],
  ) {}

  has(type: number): boolean {
    return this.messages.some(message => message.type === type);
  }

  /** Whether a message of this type refers to a message shared by several objects. */
  isShared(type: number): boolean {
    return this.messages.some(message => message.type === type && message.shared);
  }

  /** A cursor at the start of the first message of this type. */
  first(type: number, subject: string): Cursor | undefined {
    return this.all(type, subject)[0];
  }

  /** Cursors at the start of each message of this type. */
  all(type: number, subject: string): Cursor[] {
    return this.messages
      .filter(message => message.type === type)
      .map(message => {
        if (message.shared) {
          throw unsupportedFeature(
            message.body.file,
            subject,
            'its own description',
            'one shared with other objects (a committed datatype)',
          );
        }
        message.body.position = 0;
        return message.body;
      });
  }
}

/** Reads an object header (version 1 or 2) with all its continuation blocks. */
export async function readObjectHeader(reader: BlockReader, address: number): Promise<ObjectHeader> {
  // The first 16 bytes contain a whole version 1 prefix, or a version 2 prefix up to its flags.
  const start = await reader.read(address, 16, 'object header');
  const messages: Message[] = [];
  const chunks: {address: number; length: number}[] = [];
  const seen = new Set<number>([address]);
  let parse: (chunk: Cursor) => void;
  let isNew = false;
  if (start.bytes[0] === 1) {
    start.skip(8);
    const length = start.u32();
    parse = chunk => parseOld(chunk, messages, chunks);
    parse(await reader.read(address + 16, length, 'object header'));
  } else {
    isNew = true;
    start.signature('OHDR');
    const version = start.u8();
    if (version !== 2) throw start.damaged('version 2', `version ${version}`);
    const flags = start.u8();
    const times = flags & 0x20 ? 16 : 0;
    const phases = flags & 0x10 ? 4 : 0;
    const width = 1 << (flags & 3);
    const prefix = await reader.read(address, 6 + times + phases + width, 'object header');
    prefix.skip(6 + times + phases);
    const length = prefix.unsigned(width);
    const entry = flags & 0x04 ? 6 : 4;
    parse = chunk => parseNew(chunk, entry, messages, chunks);
    parse(await reader.read(address + prefix.position, length, 'object header'));
  }
  for (let next = chunks.shift(); next; next = chunks.shift()) {
    let chunk = await reader.read(next.address, next.length, 'object header continuation');
    if (seen.has(next.address)) throw chunk.damaged('blocks that follow each other', 'a loop of blocks');
    seen.add(next.address);
    if (isNew) {
      chunk.signature('OCHK');
      if (chunk.remaining < 4) throw chunk.damaged('a checksum', `${chunk.remaining} bytes`);
      chunk = chunk.part(chunk.remaining - 4, chunk.what);
    }
    parse(chunk);
  }
  return new ObjectHeader(address, messages);
}

type Chunks = {address: number; length: number}[];

function parseOld(chunk: Cursor, messages: Message[], chunks: Chunks): void {
  // Bytes too short for a message are padding.
  while (chunk.remaining >= 8) {
    const type = chunk.u16();
    const length = chunk.u16();
    const flags = chunk.u8();
    chunk.skip(3);
    add(chunk, type, flags, length, messages, chunks);
  }
}

function parseNew(chunk: Cursor, entry: number, messages: Message[], chunks: Chunks): void {
  // Bytes too short for a message are a gap.
  while (chunk.remaining >= entry) {
    const type = chunk.u8();
    const length = chunk.u16();
    const flags = chunk.u8();
    chunk.skip(entry - 4);
    add(chunk, type, flags, length, messages, chunks);
  }
}

function add(chunk: Cursor, type: number, flags: number, length: number, messages: Message[], chunks: Chunks): void {
  const body = chunk.part(length, `message ${type} of ${chunk.what}`);
  if (type === MessageType.Continuation) {
    chunks.push({address: body.definedAddress('a continuation block'), length: body.u64()});
    return;
  }
  if (type === 0) return;
  if (messages.length >= MESSAGE_LIMIT) throw chunk.damaged(`at most ${MESSAGE_LIMIT} messages`, 'more');
  messages.push({type, shared: (flags & SHARED_FLAG) !== 0, body});
}
