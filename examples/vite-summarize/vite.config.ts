import {defineConfig} from 'vite';

/** With these headers the model may use several threads. Your server must send them too. */
const headers = {'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp'};

export default defineConfig({
  server: {headers},
  preview: {headers},
  // Parts of the Worker that are loaded when they are needed are files of their own. By default it is one large file.
  worker: {format: 'es'},
  // What only the Worker imports. Otherwise the development server finds it late, and reloads the page once.
  optimizeDeps: {include: ['tfjs-gemma3/worker/host', 'tfjs-gemma3/presets/gemma3_tiny']},
});
