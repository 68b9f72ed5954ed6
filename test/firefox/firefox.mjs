/**
 * Firefox, as Debian has it at /usr/bin/firefox-esr, or the one that FIREFOX names: driven by WebDriver BiDi. Without it
 * the tests are skipped, except in CI, where it is installed.
 */
import assert from 'node:assert/strict';
import {existsSync, mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as runner from 'node:test';
import puppeteer from 'puppeteer-core';
import {startRecorder} from '../demo/recorder.mjs';

const executablePath = process.env.FIREFOX ?? '/usr/bin/firefox-esr';
const lacking = !process.env.CI && !existsSync(executablePath) && `there is no ${executablePath}`;

export const test = lacking ? name => runner.test(name, {skip: lacking}, () => {}) : runner.test;
export const before = lacking ? () => {} : runner.before;
export const after = lacking ? () => {} : runner.after;

/** A fake camera is used without a prompt, and files are saved without a prompt. */
const preferences = (proxy, folder) => ({
  'media.navigator.permission.disabled': true,
  'media.navigator.streams.fake': true,
  'browser.download.folderList': 2,
  'browser.download.dir': folder,
  'browser.download.useDownloadDir': true,
  'browser.download.always_ask_before_handling_new_types': false,
  'network.proxy.type': 1,
  'network.proxy.http': '127.0.0.1',
  'network.proxy.http_port': proxy,
  'network.proxy.ssl': '127.0.0.1',
  'network.proxy.ssl_port': proxy,
  'network.proxy.no_proxies_on': '',
  'network.proxy.allow_hijacking_localhost': true,
});

/** Firefox's messages when there is no network, or a page is left before its files have arrived. */
const LOST = /NetworkError|Failed to load ‘[^’]*’\. A ServiceWorker/;

/**
 * Ends WebDriver's watch over Workers. While Firefox reports its Workers to a debugger, about one in fifty calls of
 * `new Worker` in a Worker never returns. Users have no WebDriver: without it, none of 2,300 calls did that.
 */
async function watchNoWorkers({connection}) {
  const {result} = await connection.send('browsingContext.getTree', {'moz:scope': 'chrome'});
  const actor = 'chrome://remote/content/shared/js-process-actors/WebDriverWorkerListenerActor.sys.mjs';
  const {result: ended} = await connection.send('script.evaluate', {
    expression: `ChromeUtils.importESModule('${actor}').unregisterWebDriverWorkerListenerActor()`,
    target: {context: result.contexts[0].context},
    awaitPromise: false,
  });
  // Other versions of Firefox may have no such watch, or have it elsewhere.
  if (ended.type !== 'success') console.warn(`Workers are still watched: ${ended.exceptionDetails.text}`);
}

/**
 * A user with a separate Firefox: {open(address), problems, network, folder, close()}. Problems are errors of the page,
 * and what its policy forbids. All requests go through `network`, and downloads are saved in `folder`.
 */
export async function newPerson(more = {}) {
  assert.ok(existsSync(executablePath), `Expected Firefox at ${executablePath}: install it, or set FIREFOX.`);
  const network = await startRecorder();
  const folder = mkdtempSync(join(tmpdir(), 'gemma3-firefox-'));
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath,
    headless: true,
    // For `watchNoWorkers`.
    args: ['--remote-allow-system-access'],
    extraPrefsFirefox: {...preferences(Number(new URL(network.address).port), folder), ...more},
  });
  await watchNoWorkers(browser);
  const problems = [];
  const open = async address => {
    const page = await browser.newPage();
    await page.setViewport({width: 1280, height: 800});
    page.setDefaultTimeout(60_000);
    const note = problem => LOST.test(problem) || problems.push(problem);
    page.on('pageerror', error => note(String(error)));
    page.on('console', message => message.type() === 'error' && note(message.text()));
    await page.goto(address);
    return page;
  };
  const close = async () => {
    await browser.close();
    network.close();
    rmSync(folder, {recursive: true, force: true});
  };
  return {open, problems, network, folder, close};
}

/** Runs `found` in the page until it returns something true, also while the page is loaded again. → that */
export async function until(page, found, ...args) {
  for (const end = Date.now() + 60_000; ;) {
    const value = await page.evaluate(found, ...args).catch(() => undefined);
    if (value) return value;
    if (Date.now() > end) {
      const text = await page.evaluate(() => document.body.innerText).catch(String);
      throw new Error(`Expected ${found} of ${JSON.stringify(args)} within a minute. The page has: ${text}`);
    }
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}
