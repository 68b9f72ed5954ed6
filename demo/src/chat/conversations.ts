/** The stored conversations, and the open one. Other tabs may change them too. */
import {byId, h} from '../base/dom';
import {
  type Conversation,
  findConversation,
  listConversations,
  onChangeElsewhere,
  removeConversation,
  saveConversation,
} from '../base/database';
import {keptInTab} from '../base/remember';

const OPEN = 'gemma3-conversation';

const titleOf = (text: string): string => {
  const line = text.trim().split('\n')[0] ?? '';
  return line.length > 48 ? `${line.slice(0, 47)}…` : line || 'Picture';
};

const empty = (system: string): Conversation => ({
  // Pages that are not from https have no randomUUID.
  id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`,
  title: 'New conversation',
  changed: Date.now(),
  system,
  messages: [],
});

export class Conversations {
  current: Conversation = empty('');
  private readonly list = byId('conversations');

  /**
   * @param onOpen called when another conversation is opened, or its messages change.
   * @param isBusy whether an answer is being written: the open conversation stays then.
   */
  constructor(
    private readonly onOpen: () => void,
    private readonly isBusy: () => boolean,
  ) {
    byId('new-conversation').onclick = () => {
      this.open(empty(this.current.system));
      byId('question').focus();
    };
    onChangeElsewhere(change => 'conversation' in change && void this.changedElsewhere(change.conversation));
  }

  /** Opens the conversation that was open before. */
  async start(): Promise<void> {
    const id = keptInTab.get(OPEN);
    const found = id === undefined ? undefined : await findConversation(id);
    const [last] = found ? [found] : await listConversations();
    if (last) this.open(last);
    else await this.refresh();
  }

  /** Saves the open conversation, unless it has no messages. */
  async save(): Promise<void> {
    const {current} = this;
    const [first] = current.messages;
    if (!first) return;
    current.title = titleOf(first.text);
    current.changed = Date.now();
    await saveConversation(current);
    await this.refresh();
  }

  private open(conversation: Conversation): void {
    if (this.isBusy()) return;
    this.current = conversation;
    keptInTab.set(OPEN, conversation.id);
    this.onOpen();
    void this.refresh();
  }

  private async changedElsewhere(id: string): Promise<void> {
    if (id === this.current.id && !this.isBusy()) {
      const other = await findConversation(id);
      this.open(other ?? empty(''));
    } else await this.refresh();
  }

  private async remove(id: string): Promise<void> {
    await removeConversation(id);
    if (id === this.current.id && !this.isBusy()) this.open(empty(''));
    else await this.refresh();
    byId('new-conversation').focus();
  }

  private async refresh(): Promise<void> {
    // If conversations cannot be stored, the chat has said so at its start.
    const all = await listConversations().catch(() => []);
    this.list.replaceChildren(
      ...all.map(conversation => {
        const {id, title} = conversation;
        const select = h('button', {type: 'button', className: 'title', onclick: () => this.open(conversation)}, title);
        if (id === this.current.id) select.setAttribute('aria-current', 'true');
        const label = `Delete ${title}`;
        const remove = h(
          'button',
          {type: 'button', className: 'quiet', 'aria-label': label, onclick: () => void this.remove(id)},
          '×',
        );
        return h('li', {}, select, remove);
      }),
    );
  }
}
