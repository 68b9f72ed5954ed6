/** Examples and pictures in the form that `fit` accepts. */
import {type RemoteTrainingTexts} from 'tfjs-gemma3/worker';
import {type Example} from './examples';

/**
 * Training data of examples.
 *
 * @param asTurns whether each is a question and an answer of a conversation, or plain text.
 * @throws Error if a picture was not loaded.
 */
export function trainingData(
  examples: readonly Example[],
  pictures: ReadonlyMap<string, Blob>,
  asTurns: boolean,
): RemoteTrainingTexts {
  const find = (name: string) => {
    const found = pictures.get(name);
    if (found) return found;
    throw new Error(`The picture "${name}" was not loaded. Load it with the button below the lines.`);
  };
  const images = examples.map(example => example.pictures.map(find));
  if (asTurns) {
    return examples.map(({prompt, response}, i) => {
      const parts = images[i]!.map(image => ({type: 'image', image}) as const);
      const content = parts.length > 0 ? [...parts, {type: 'text', text: prompt} as const] : prompt;
      return [
        {role: 'user', content},
        {role: 'assistant', content: response},
      ] as const;
    });
  }
  const marks = images.map(list => '<start_of_image>'.repeat(list.length));
  return {
    prompts: examples.map(({prompt}, i) => (prompt.includes('<start_of_image>') ? prompt : marks[i]! + prompt)),
    responses: examples.map(({response}) => response),
    ...(images.some(list => list.length > 0) && {images}),
  };
}
