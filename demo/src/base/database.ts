/** The page's database: conversations and downloads. */
import {type DBSchema, type IDBPDatabase, openDB} from 'idb';

export interface Message {
  role: 'user' | 'assistant';
  text: string;
  /** Pictures of a question. */
  pictures?: Blob[];
  /** How an answer ended, and how fast it was. */
  numbers?: {tokens: number; seconds: number; reason: 'stop' | 'length' | 'aborted'; by: string};
}

export interface Conversation {
  id: string;
  title: string;
  /** Milliseconds since 1970. */
  changed: number;
  system: string;
  messages: Message[];
}

/** A download that was begun here. The bytes that have arrived are in the package's own cache. */
export interface Download {
  /** As it was requested. */
  address: string;
  dtype: string;
  done: boolean;
}

interface Schema extends DBSchema {
  conversations: {key: string; value: Conversation; indexes: {changed: number}};
  downloads: {key: string; value: Download};
}

let opened: Promise<IDBPDatabase<Schema>> | undefined;

const database = (): Promise<IDBPDatabase<Schema>> =>
  (opened ??= openDB<Schema>('gemma3-demo', 1, {
    upgrade(db) {
      db.createObjectStore('conversations', {keyPath: 'id'}).createIndex('changed', 'changed');
      db.createObjectStore('downloads', {keyPath: 'address'});
    },
  }));

/** Tells other tabs, and is told by them, when a conversation or a stored model has changed. */
const channel = openChannel();

function openChannel(): BroadcastChannel | undefined {
  try {
    return new BroadcastChannel('gemma3-demo');
  } catch {
    // Firefox refuses it to sites that may not store anything. Then there is nothing to tell other tabs.
    return undefined;
  }
}

export type Change = {conversation: string} | {models: true};

export function onChangeElsewhere(listener: (change: Change) => void): void {
  channel?.addEventListener('message', event => listener((event as MessageEvent<Change>).data));
}

export const tellOthers = (change: Change): void => channel?.postMessage(change);

/** Conversations, the last one first. */
export async function listConversations(): Promise<Conversation[]> {
  return (await (await database()).getAllFromIndex('conversations', 'changed')).reverse();
}

export async function findConversation(id: string): Promise<Conversation | undefined> {
  return (await database()).get('conversations', id);
}

export async function saveConversation(conversation: Conversation): Promise<void> {
  await (await database()).put('conversations', conversation);
  tellOthers({conversation: conversation.id});
}

export async function removeConversation(id: string): Promise<void> {
  await (await database()).delete('conversations', id);
  tellOthers({conversation: id});
}

export async function knownDownloads(): Promise<Download[]> {
  return (await database()).getAll('downloads');
}

export async function rememberDownload(download: Download): Promise<void> {
  await (await database()).put('downloads', download);
}

export async function forgetDownload(address: string): Promise<void> {
  await (await database()).delete('downloads', address);
}
