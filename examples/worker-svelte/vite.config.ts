import {svelte} from '@sveltejs/vite-plugin-svelte';
import {defineConfig} from 'vite';

/** With these headers the model may use several threads. Your server must send them too. */
const headers = {'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp'};

export default defineConfig({
  plugins: [svelte()],
  server: {headers},
  preview: {headers},
  // Parts of the Worker that are loaded on demand become separate files. By default the Worker is one large file.
  worker: {format: 'es'},
  // Packages that only the Worker imports. Otherwise the development server finds them late, and reloads the page once.
  optimizeDeps: {include: ['tfjs-gemma3/worker/host', 'tfjs-gemma3/presets/gemma3_tiny']},
});
