/**
 * Chromium with tabs of one window, of which only the last one is visible. Playwright makes every page think that it is
 * visible and has the focus, and launches Chromium so that hidden pages are not slowed down: here neither is done.
 */
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {mkdtemp, rm} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

/** The DevTools protocol over pipes: messages end with a zero byte. */
class Devtools {
  #last = 0;
  #waiting = new Map();
  #rest = '';

  constructor(input, output) {
    this.input = input;
    output.setEncoding('utf8').on('data', text => this.#receive(text));
    output.on('close', () => {
      for (const {reject} of this.#waiting.values()) reject(new Error('Chromium has ended.'));
      this.#waiting.clear();
    });
    // After the end of Chromium, calls are rejected above.
    input.on('error', () => {});
  }

  #receive(text) {
    const messages = (this.#rest + text).split('\0');
    this.#rest = messages.pop();
    for (const {id, error, result} of messages.map(one => JSON.parse(one))) {
      const call = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) call?.reject(new Error(`${call.method}: ${error.message}`));
      else call?.resolve(result);
    }
  }

  send(method, params = {}, sessionId = undefined) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(++this.#last, {method, resolve, reject});
      this.input.write(`${JSON.stringify({id: this.#last, method, params, sessionId})}\0`);
    });
  }
}

/** A page in a tab. */
class Tab {
  constructor(devtools, sessionId) {
    this.devtools = devtools;
    this.sessionId = sessionId;
  }

  /** Calls a function of the page. Its arguments and its result are JSON. */
  async call(name, ...args) {
    const expression = `globalThis.${name}(...${JSON.stringify(args)})`;
    const params = {expression, awaitPromise: true, returnByValue: true};
    const {result, exceptionDetails} = await this.devtools.send('Runtime.evaluate', params, this.sessionId);
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until a function of the page is defined. */
  async defined(name) {
    const params = {expression: `typeof globalThis.${name}`, returnByValue: true};
    // While a page is being replaced, calls fail.
    const notYet = error => {
      if (!error.message.includes('execution context')) throw error;
    };
    for (;;) {
      const answer = await this.devtools.send('Runtime.evaluate', params, this.sessionId).catch(notYet);
      if (answer?.result.value === 'function') return;
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  }
}

/** Starts Chromium. → {open(url), close()}; each tab that is opened hides the one before. */
export async function launchTabs(executablePath, args) {
  const folder = await mkdtemp(join(tmpdir(), 'tabs-'));
  const flags = ['--headless=new', '--remote-debugging-pipe', `--user-data-dir=${folder}`, '--no-first-run'];
  const stdio = ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'];
  const chromium = spawn(executablePath, [...flags, ...args, 'about:blank'], {stdio});
  const ended = once(chromium, 'close');
  const devtools = new Devtools(chromium.stdio[3], chromium.stdio[4]);
  return {
    async open(url) {
      const {targetId} = await devtools.send('Target.createTarget', {url});
      const {sessionId} = await devtools.send('Target.attachToTarget', {targetId, flatten: true});
      return new Tab(devtools, sessionId);
    },
    async close() {
      devtools.send('Browser.close').catch(() => chromium.kill());
      await ended;
      await rm(folder, {recursive: true, force: true, maxRetries: 5});
    },
  };
}
