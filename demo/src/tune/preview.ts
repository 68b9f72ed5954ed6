/** How lines are tokenized, and which tokens count. */
import {type RemoteTrainingTexts, type RemoteCausalLM} from 'tfjs-gemma3/worker';
import {byId, h} from '../base/dom';
import {messageOf} from '../base/format';

const ROWS = 4;
/** A row with pictures has hundreds of tokens that look alike. */
const TOKENS = 120;

/** A token as text: spaces and line ends can be seen. */
const shown = (text: string): string => text.replaceAll('▁', '·').replaceAll('\n', '↵') || '∅';

/**
 * Shows the first rows.
 *
 * @returns whether the model accepts the data.
 */
export async function showPreview(
  lm: RemoteCausalLM,
  data: RemoteTrainingTexts,
  isCurrent: () => boolean,
): Promise<boolean> {
  const note = byId('preview-note');
  const list = byId('preview');
  try {
    const {rows, lengths, sequenceLength} = await lm.previewTraining(data, {rows: ROWS});
    if (!isCurrent()) return true;
    const cut = lengths.filter(length => length >= sequenceLength).length;
    const longest = Math.max(...lengths);
    note.textContent =
      `${lengths.length} ${lengths.length === 1 ? 'row' : 'rows'}, the longest of ${longest} tokens. ` +
      (cut > 0 ? `${cut} may be cut at ${sequenceLength} tokens. ` : '') +
      'Underlined tokens count: the model learns to write them.';
    list.replaceChildren(
      ...rows.map(({tokens}) => {
        const some = tokens.slice(0, TOKENS);
        const marks = some.map(({id, text, counts}) =>
          h(counts ? 'mark' : 'span', {title: `token ${id}${counts ? ', counts' : ''}`}, shown(text)),
        );
        return h(
          'li',
          {className: 'tokens'},
          ...marks,
          tokens.length > TOKENS && `… and ${tokens.length - TOKENS} more`,
        );
      }),
    );
    return true;
  } catch (error) {
    if (isCurrent()) {
      list.replaceChildren();
      note.textContent = messageOf(error);
    }
    return false;
  }
}
