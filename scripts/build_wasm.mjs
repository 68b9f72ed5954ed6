/**
 * Compiles the WebAssembly kernels (AssemblyScript, `src/backends/simd/assembly`) in four variants. Writes them as one
 * TypeScript file, so that a bundle contains them and needs no separate file.
 *
 *     node scripts/build_wasm.mjs
 */
import {mkdirSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
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

const lines = [];
for (const shared of [true, false]) {
  for (const relaxed of [true, false]) {
    const name = `${shared ? 'shared' : 'unshared'}${relaxed ? 'Relaxed' : 'Plain'}`;
    const binary = await compile(shared, relaxed);
    console.log(`${name}: ${binary.length} bytes`);
    lines.push(`  ${name}:\n    '${Buffer.from(binary).toString('base64')}',`);
  }
}
mkdirSync(join(simd, 'generated'), {recursive: true});
writeFileSync(
  join(simd, 'generated', 'wasm_binaries.ts'),
  `/** WebAssembly modules in base64, compiled from ../assembly by scripts/build_wasm.mjs. */\n` +
    `export const WASM_BINARIES = {\n${lines.join('\n')}\n};\n`,
);
