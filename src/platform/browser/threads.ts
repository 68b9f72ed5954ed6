/** Threads in browsers: workers started from a `blob:` URL. */
import {type Thread, type Threads} from '../contract';

/** Name of the policy that a page with Trusted Types must allow. */
const POLICY = 'tfjs-gemma3';

const ADVICE = 'If the page has a Content-Security-Policy, add `blob:` to its worker-src.';

export function startThread(source: string, data: unknown): Thread {
  const text = `const receive = handler => { onmessage = ({data}) => handler(data); };
    receive(data => (${source})(data, {ready: () => postMessage('ready'), receive, end: () => close()}));`;
  const url = URL.createObjectURL(new Blob([text], {type: 'text/javascript'}));
  const worker = newWorker(url);
  let end!: () => void;
  const ended = new Promise<void>(resolve => (end = resolve));
  const ready = new Promise<void>((resolve, reject) => {
    worker.onmessage = () => resolve();
    worker.onerror = event => {
      end();
      // The error of a worker that a policy forbids has no message.
      reject(new Error(`Threads are refused: ${event.message ?? 'a worker could not be loaded'}. ${ADVICE}`));
    };
  }).finally(() => URL.revokeObjectURL(url));
  worker.postMessage(data);
  // Browsers do not report that a worker has ended, so there is nothing to wait for.
  const kill = async () => {
    worker.terminate();
    end();
  };
  const send = (message: unknown) => worker.postMessage(message);
  return {ready, ended, send, kill, stop: kill};
}

function newWorker(url: string): Worker {
  try {
    return new Worker(trusted(url));
  } catch (error) {
    URL.revokeObjectURL(url);
    const advice = `${ADVICE} If it has trusted-types, add ${POLICY} to them.`;
    throw new Error(`Threads are refused: ${(error as Error).message.replace(/\.$/, '')}. ${advice}`, {cause: error});
  }
}

interface TrustedTypes {
  createPolicy(name: string, rules: {createScriptURL(url: string): string}): {createScriptURL(url: string): string};
}

let policy: ReturnType<TrustedTypes['createPolicy']> | undefined;

/** The address in the form that `new Worker` requires on a page with Trusted Types. */
function trusted(url: string): string {
  const {trustedTypes} = globalThis as {trustedTypes?: TrustedTypes};
  if (!trustedTypes) return url;
  try {
    policy ??= trustedTypes.createPolicy(POLICY, {createScriptURL: url => url});
  } catch {
    // The page lists the policies that it allows. Where it requires one, `new Worker` refuses the plain address.
    return url;
  }
  return policy.createScriptURL(url);
}

export const coreCount = (): number => navigator.hardwareConcurrency ?? 1;

export const spaceLeft = (): number => Infinity;

void ({startThread, coreCount, spaceLeft} satisfies Threads);
