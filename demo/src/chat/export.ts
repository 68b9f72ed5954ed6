/** A conversation as JSON: messages in the package's format, with pictures as data addresses. */
import {type Conversation} from '../base/database';
import {dataAddress, download} from '../base/files';

export async function exportConversation({title, system, messages}: Conversation): Promise<void> {
  const all = await Promise.all(
    messages.map(async ({role, text, pictures = [], numbers}) => {
      const images = await Promise.all(pictures.map(async one => ({type: 'image', image: await dataAddress(one)})));
      const content = images.length > 0 ? [...images, {type: 'text', text}] : text;
      return {role, content, ...(numbers && {numbers})};
    }),
  );
  const first = system.trim() ? [{role: 'system', content: system}] : [];
  const name = title.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '') || 'conversation';
  download(`${name}.json`, JSON.stringify({title, messages: [...first, ...all]}, null, 2), 'application/json');
}
