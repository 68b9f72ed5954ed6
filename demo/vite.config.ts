import {createHash} from 'node:crypto';
import {fileURLToPath} from 'node:url';
import {defineConfig, type Plugin} from 'vite';

/** What pages may do: run their own scripts and WebAssembly, and ask hosts that a person has named for models. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self' blob:",
  "style-src 'self'",
  "img-src 'self' blob:",
  "media-src 'self' blob:",
  "manifest-src 'self'",
  "connect-src 'self' blob: https: http://localhost:* http://127.0.0.1:*",
  "base-uri 'none'",
  "form-action 'none'",
  "require-trusted-types-for 'script'",
  'trusted-types default dompurify tfjs-gemma3',
].join('; ');

/** Headers of every answer. The first two let threads share memory; the service worker adds all where a host cannot. */
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Content-Security-Policy': `${POLICY}; frame-ancestors 'none'`,
  'Permissions-Policy': 'camera=(self), microphone=(), geolocation=()',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

/** The policy in the page as well. Vite's development server injects styles, which it would forbid. */
const policy: Plugin = {
  name: 'policy',
  apply: 'build',
  transformIndexHtml: () => [
    {tag: 'meta', attrs: {'http-equiv': 'Content-Security-Policy', content: POLICY}, injectTo: 'head-prepend'},
  ],
};

/** Tells the service worker which files there are. */
const files: Plugin = {
  name: 'files',
  apply: 'build',
  generateBundle(_, bundle) {
    const worker = bundle['service_worker.js'];
    if (worker?.type !== 'chunk') return;
    const names = Object.keys(bundle).filter(name => name !== worker.fileName && !/\.map$|index\.html$/.test(name));
    const all = ['./', 'icon.svg', ...names.sort()];
    const hash = createHash('sha256').update(JSON.stringify([all, headers]));
    for (const name of names) {
      const one = bundle[name]!;
      hash.update(one.type === 'chunk' ? one.code : one.source);
    }
    const constants = {FILES: all, VERSION: hash.digest('hex').slice(0, 12), HEADERS: headers};
    const declared = Object.entries(constants).map(([name, value]) => `const ${name}=${JSON.stringify(value)};`);
    worker.code = declared.join('') + worker.code;
  },
};

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: here('.'),
  base: './',
  plugins: [policy, files],
  server: {headers},
  preview: {headers},
  worker: {format: 'es'},
  optimizeDeps: {include: ['tfjs-gemma3/worker/host', 'tfjs-gemma3/presets/gemma3_tiny']},
  build: {
    target: 'es2022',
    // Polyfills would be inline scripts, which the policy forbids.
    modulePreload: {polyfill: false},
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 6000,
    rollupOptions: {
      input: {index: here('index.html'), service_worker: here('src/service_worker.ts')},
      output: {
        entryFileNames: ({name}) => (name === 'service_worker' ? '[name].js' : 'assets/[name]-[hash].js'),
      },
    },
  },
});
