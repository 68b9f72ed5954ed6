/**
 * Compiles the WebAssembly kernels (AssemblyScript, `src/backends/simd/assembly`) in four variants. Writes each as a
 * TypeScript file, so that bundlers need no rule for it, and a page loads only the one that it uses.
 *
 *     node scripts/build_wasm.mjs
 */
import {once} from 'node:events';
import {mkdirSync, readdirSync, renameSync, rmSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {isMainThread, Worker, workerData} from 'node:worker_threads';
import {deflateSync} from 'node:zlib';
import asc from 'assemblyscript/asc';

const simd = join(dirname(fileURLToPath(import.meta.url)), '..', 'src', 'backends', 'simd');

async function compile(shared, relaxed) {
  const features = ['simd', 'bulk-memory', ...(shared ? ['threads'] : []), ...(relaxed ? ['relaxed-simd'] : [])];
  let binary;
  const {error, stderr} = await asc.main(
    [
      'index.ts',
      ...['--baseDir', join(simd, 'assembly'), '--outFile', 'kernels.wasm'],
      ...[
        '-O3',
        '--noAssert',
        '--runtime',
        'stub',
        '--importMemory',
        '--noExportMemory',
        '--use',
        'abort=',
        '--disableWarning',
        '112',
      ],
      ...['--initialMemory', '1', '--maximumMemory', '65536', ...(shared ? ['--sharedMemory'] : [])],
      ...features.flatMap(feature => ['--enable', feature]),
    ],
    {
      writeFile: (name, contents) => {
        if (name.endsWith('.wasm')) binary = contents;
      },
    },
  );
  if (error || !binary) throw new Error(`asc failed: ${error?.message}\n${stderr}`);
  if (!relaxed && !WebAssembly.validate(binary)) throw new Error('asc produced an invalid module.');
  return binary;
}

const folder = join(simd, 'generated');
const variants = [true, false].flatMap(shared => [true, false].map(relaxed => ({shared, relaxed})));
const nameOf = ({shared, relaxed}) => `${shared ? 'shared' : 'unshared'}_${relaxed ? 'relaxed' : 'plain'}`;

async function write({shared, relaxed}) {
  const name = nameOf({shared, relaxed});
  const binary = await compile(shared, relaxed);
  // Base64 alone would hide repetition from the compression of a server.
  const packed = deflateSync(binary, {level: 9});
  console.log(`${name}: ${binary.length} bytes, ${packed.length} compressed`);
  const path = join(folder, `${name}.ts`);
  // A program that runs meanwhile reads either the old file or the new one.
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(
    unfinished,
    '/** A WebAssembly module: zlib, in base64. Compiled from ../assembly by scripts/build_wasm.mjs. */\n' +
      `export const BINARY =\n  '${packed.toString('base64')}';\n`,
  );
  renameSync(unfinished, path);
}

if (isMainThread) {
  mkdirSync(folder, {recursive: true});
  // On each of two threads, one variant with shared memory and one without.
  await Promise.all(
    [true, false].map(async relaxed => {
      const worker = new Worker(fileURLToPath(import.meta.url), {workerData: {relaxed}});
      const [code] = await once(worker, 'exit');
      if (code !== 0) process.exitCode = code;
    }),
  );
  const files = variants.map(variant => `${nameOf(variant)}.ts`);
  for (const file of readdirSync(folder)) if (file.endsWith('.ts') && !files.includes(file)) rmSync(join(folder, file));
} else {
  for (const variant of variants) if (variant.relaxed === workerData.relaxed) await write(variant);
}
