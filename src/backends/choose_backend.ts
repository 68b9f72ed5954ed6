/** The backend of programs that do not choose one. */
import {hasChosen} from './choice';
import {useBackend} from './use_backend';

/** Selects the best backend that works here, unless the program has chosen one. */
export async function chooseBackend(): Promise<void> {
  if (!(await hasChosen())) await useBackend();
}
