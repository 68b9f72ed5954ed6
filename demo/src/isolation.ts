/// <reference types="vite/client" />
/**
 * Threads need headers that isolate the page. If the server does not send them, the service worker adds them, and the
 * page is loaded once more. It also makes the page work offline.
 */
import {keptInTab} from './base/remember';

/** One attempt per tab: a browser that refuses isolation must not reload forever. */
const TRIED = 'gemma3-isolation';

/** In browsers with Trusted Types, scripts may come only from this origin. */
interface TrustedTypes {
  createPolicy(name: string, rules: {createScriptURL: (url: string) => string}): unknown;
}
(globalThis as {trustedTypes?: TrustedTypes}).trustedTypes?.createPolicy('default', {
  createScriptURL: url => {
    if (new URL(url, document.baseURI).origin === location.origin) return url;
    throw new TypeError(`Expected a script of this page. Received: ${url}.`);
  },
});

async function register(): Promise<void> {
  if (!('serviceWorker' in navigator) || !isSecureContext) return;
  const {serviceWorker} = navigator;
  const lacking = !crossOriginIsolated && keptInTab.get(TRIED) === undefined;
  if (lacking) {
    // If the attempt cannot be recorded, the page might reload forever.
    const reload = () => keptInTab.set(TRIED, 'yes') && location.reload();
    if (serviceWorker.controller) return void reload();
    serviceWorker.addEventListener('controllerchange', reload, {once: true});
  }
  await serviceWorker.register(new URL('service_worker.js', document.baseURI));
  const {active} = await serviceWorker.ready;
  active?.postMessage('keep');
}

if (import.meta.env.PROD) register().catch(error => console.warn(error));
