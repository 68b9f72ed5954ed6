/** All hubs. To add one, write its file and add a line here. */
import {type Hub} from './hub';
import {huggingFace} from './huggingface';
import {kaggle} from './kaggle';
import {webFolder} from './web_folder';

export const hubs: readonly Hub[] = [kaggle, huggingFace, webFolder];

/** The hub of a full name, such as `hf://owner/name`; undefined if no hub has its scheme. */
export function hubOf(name: string): Hub | undefined {
  const [, scheme = ''] = /^([a-z]+):\/\//i.exec(name) ?? [];
  return hubs.find(({schemes}) => schemes.includes(scheme.toLowerCase()));
}
