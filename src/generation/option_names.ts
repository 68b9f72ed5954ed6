/** Options under the names of other libraries: errors say which option is meant. */
import {checkKeys} from '../base/errors';

/** Names in other libraries, and the options that they stand for here. */
const OTHER_NAMES: Record<string, string> = {
  ...{stop: 'stopStrings', stopSequences: 'stopStrings', stop_sequences: 'stopStrings'},
  ...{maxOutputTokens: 'maxNewTokens', max_completion_tokens: 'maxNewTokens', num_predict: 'maxNewTokens'},
  ...{abortSignal: 'signal', eos_token_id: 'stopTokenIds', do_sample: 'sampler', doSample: 'sampler'},
  ...{return_full_text: 'stripPrompt', repeat_penalty: 'repetitionPenalty', num_ctx: 'maxLength'},
};

/** @throws ValueError on unknown options, with the name of the option that was meant, if it is known. */
export function checkOptions(owner: string, options: object, known: readonly string[]): void {
  checkKeys(owner, options, known, OTHER_NAMES);
}
