/** Kaggle's credentials, from the places where kagglehub looks for them. */
import * as store from '#platform/store';
import {ValueError} from '../base/errors';

const folder = () => `${store.homeFolder()}/.kaggle`;

/**
 * A token from the environment, or from the file that it names; otherwise from one of the files that Kaggle's page
 * offers.
 */
async function token(): Promise<string | undefined> {
  const given = store.environment('KAGGLE_API_TOKEN');
  if (given !== undefined) {
    const text = given.includes('/') || given.includes('\\') ? await store.readText(given) : undefined;
    return (text ?? given).trim() || undefined;
  }
  for (const name of ['access_token', 'access_token.txt']) {
    const text = (await store.readText(`${folder()}/${name}`))?.trim();
    if (text) return text;
  }
  return undefined;
}

/** Text in base64, of any characters. */
const base64 = (text: string) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

const basic = (user: string, key: string) => ({Authorization: `Basic ${base64(`${user}:${key}`)}`});

/**
 * The header with the user's credentials; undefined if there are none, which is enough for public models.
 *
 * @throws ValueError if `kaggle.json` is damaged.
 */
export async function kaggleCredentials(): Promise<Record<string, string> | undefined> {
  const bearer = await token();
  if (bearer !== undefined) return {Authorization: `Bearer ${bearer}`};
  const user = store.environment('KAGGLE_USERNAME');
  const key = store.environment('KAGGLE_KEY');
  if (user !== undefined && key !== undefined) return basic(user, key);
  const path = `${store.environment('KAGGLE_CONFIG_DIR') ?? folder()}/kaggle.json`;
  const text = await store.readText(path);
  if (text === undefined) return undefined;
  try {
    const {username, key} = JSON.parse(text) as Record<string, unknown>;
    if (typeof username === 'string' && typeof key === 'string') return basic(username, key);
  } catch {
    // Reported below, without the text, which holds a key.
  }
  throw new ValueError(
    `Expected Kaggle's credentials in ${path}: {"username": …, "key": …}. Received: something else. ` +
      'Download the file again from https://www.kaggle.com/settings.',
  );
}
