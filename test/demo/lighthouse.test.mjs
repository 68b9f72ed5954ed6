/**
 * Lighthouse on the page in `demo`: accessibility and best practices. It is fetched from npm when the test runs: with
 * its 170 MB it should not be a dependency.
 */
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {text} from 'node:stream/consumers';
import {test} from 'node:test';
import {startSite} from './site.mjs';

const LIGHTHOUSE = 'lighthouse@12.8.2';
const CATEGORIES = ['accessibility', 'best-practices'];
const LEAST = 0.95;

test(`Lighthouse: ${CATEGORIES.join(' and ')} of at least ${100 * LEAST}`, async () => {
  const site = await startSite();
  try {
    const args = ['--yes', '--prefer-offline', LIGHTHOUSE, site.address, '--quiet', '--output=json'];
    const chrome = '--chrome-flags=--headless=new --no-sandbox --disable-gpu --no-first-run';
    const env = {...process.env, CHROME_PATH: process.env.CHROMIUM ?? '/usr/bin/chromium', NODE_OPTIONS: ''};
    const child = spawn('npx', [...args, `--only-categories=${CATEGORIES}`, '--no-enable-error-reporting', chrome], {
      env,
    });
    const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
    assert.ok(out.startsWith('{'), err + out.slice(0, 500));
    const {categories, audits} = JSON.parse(out);
    for (const name of CATEGORIES) {
      const {score, auditRefs} = categories[name];
      const lacking = auditRefs.map(({id}) => audits[id]).filter(audit => audit.score !== null && audit.score < 1);
      const list = lacking.map(({title, details}) => `${title} ${JSON.stringify(details?.items)}`);
      assert.ok(score >= LEAST, `${name}: ${100 * score}. ${list.join('\n')}`);
    }
  } finally {
    await site.close();
  }
});
