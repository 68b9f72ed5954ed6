/** Names of models on Hugging Face: `hf://owner/name`, `hf://owner/name@revision/folder`, as in huggingface_hub. */
import {ValueError} from '../base/errors';
import {isSafePath} from '../base/safe_path';

export const HUGGING_FACE_EXAMPLE = 'hf://google/gemma-3-270m-it';

export interface HuggingFaceName {
  /** Owner and name. */
  readonly id: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
  /** A folder or a file in the repository; empty: all of it. */
  readonly root: string;
}

/** Revisions with slashes that need no escape. */
const SPECIAL = /^refs\/(pr\/\d+|convert\/[\w.-]+)(?=\/|$)/;

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
};

/** @throws ValueError if the name is malformed, or does not refer to a model. */
export function parseHuggingFaceName(name: string): HuggingFaceName {
  const text = name.slice('hf://'.length).replace(/^models\//, '');
  const [, owner, repository, at, rest = ''] = /^([\w.-]+)\/([\w.-]+)(@?)(.*)$/.exec(text) ?? [];
  const special = at ? SPECIAL.exec(rest)?.[0] : undefined;
  const revision = at ? (special ?? decoded(/^[^/]*/.exec(rest)![0])) : 'main';
  const tail = at ? rest.slice(special?.length ?? /^[^/]*/.exec(rest)![0].length) : rest;
  const root = tail.replace(/^\//, '').replace(/\/+$/, '');
  const isRepository = owner !== undefined && !['datasets', 'spaces', 'kernels', 'buckets'].includes(owner);
  const isValid =
    isRepository &&
    isSafePath(`${owner}/${repository}`) &&
    isSafePath(revision) &&
    (tail === '' || tail.startsWith('/')) &&
    (root === '' || isSafePath(root));
  if (isValid) return {id: `${owner}/${repository}`, revision, root};
  throw new ValueError(
    `Expected hf://owner/name of a model, perhaps with @revision and with /folder or /file.gguf, such as ` +
      `${HUGGING_FACE_EXAMPLE}@main. Received: "${name}".`,
  );
}

export const huggingFaceNameOf = ({id, revision, root}: HuggingFaceName): string =>
  `hf://${id}${revision === 'main' ? '' : `@${revision.startsWith('refs/') ? revision : encodeURIComponent(revision)}`}` +
  `${root && `/${root}`}`;
