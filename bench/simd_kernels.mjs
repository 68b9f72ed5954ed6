/**
 * Speed of the SIMD kernels. Products with one row are compared with a loop that only reads the same number of bytes,
 * which is their limit. For products with many rows, prints GFLOP/s.
 *
 *     node bench/simd_kernels.mjs [threads …]
 */
import {build} from 'esbuild';

const contents = ['engine/simd_engine', 'engine/command', 'kernels/mat_mul', 'kernels/fused_block']
  .map(file => `export * from './${file}';`)
  .join('\n');
const resolveDir = new URL('../src/backends/simd', import.meta.url).pathname;
// The kernels import tfjs, which calls `require`.
const banner = {
  js: `import {createRequire as requireFrom} from 'node:module'; const require = requireFrom('${import.meta.url}');`,
};
const bundle = {stdin: {contents, resolveDir}, bundle: true, write: false, platform: 'node', format: 'esm', banner};
const {outputFiles} = await build(bundle);
const simd = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);

const REPETITIONS = 15;

/** The shortest time in milliseconds: other processes can only add to it. The first calls let V8 optimize the code. */
function time(run, calls) {
  for (let i = 0; i < 20; i++) run();
  const times = [];
  for (let i = 0; i < REPETITIONS; i++) {
    const start = performance.now();
    for (let j = 0; j < calls; j++) run();
    times.push((performance.now() - start) / calls);
  }
  return Math.min(...times);
}

const pad = (text, width) => String(text).padEnd(width);

async function measure(threads, relaxed) {
  const engine = await simd.SimdEngine.create({threads, relaxed});
  console.log(`\n${threads} threads, ${engine.level}`);
  engine.memory.grow(6000);
  const x = engine.staticBytes;
  const y = x + (8 << 20);
  const w = y + (48 << 20);
  // Pages that were never written all map to one physical page, which would stay in the cache.
  new Uint32Array(engine.memory.buffer, x).fill(0x3f813f82);
  const run = command => engine.run(...command);
  console.log(`empty command: ${(time(() => run(simd.nothing()), 1000) * 1000).toFixed(2)} us`);

  const bytes = 168 << 20;
  const rows = name => {
    const columns = 640;
    const type = simd[name];
    const rowBytes = type === simd.FLOAT32 ? columns * 4 : simd.groupBytes(type, columns) / 8;
    return {type, columns, rows: Math.floor(bytes / rowBytes / 64) * 64, rowBytes};
  };
  const reading = () => time(() => run(simd.read({at: w, bytes})), 1) / bytes;
  for (const name of ['BFLOAT16', 'INT8', 'INT4', 'FLOAT32'].filter(name => name in simd)) {
    const {type, columns, rows: count, rowBytes} = rows(name);
    for (const inner of type === simd.FLOAT32 ? [1, 2048] : [1]) {
      const before = reading();
      const ms = time(() => run(simd.matMul({w, type, inner, x, m: 1, y, rows: count, columns})), 1);
      const plain = (before + reading()) / 2;
      const speed = (count * rowBytes) / ms / 1e6;
      console.log(
        `${pad(`1 row, ${name}, inner ${inner}`, 28)} ${speed.toFixed(1)} GB/s, ` +
          `${((plain * count * rowBytes * 100) / ms).toFixed(0)} % of reading (${(1e-6 / plain).toFixed(1)})`,
      );
    }
  }
  for (const [columns, count] of [
    [640, 1536],
    [640, 4096],
    [2048, 640],
  ]) {
    for (const name of ['BFLOAT16', 'INT8', 'INT4', 'FLOAT32'].filter(name => name in simd)) {
      const speeds = [4, 16, 256].map(m => {
        const args = {w, type: simd[name], inner: count, x, m, y, rows: count, columns};
        const flops = 2 * m * count * columns;
        return [simd.matMul(args), simd.matMulTransposed(args)].map(command =>
          (flops / time(() => run(command), Math.ceil(1e8 / flops)) / 1e6).toFixed(1),
        );
      });
      console.log(
        `${pad(`${columns} x ${count}, ${name}`, 28)} GFLOP/s of 4, 16, 256 rows (transposed): ` +
          speeds.map(([forward, back]) => `${forward} (${back})`).join('  '),
      );
    }
  }
  decode(engine, run, w);
  await engine.dispose();
}

/** Time per token of the 18 blocks of Gemma 3 270M, each with separate weights. */
function decode(engine, run, start) {
  const sizes = {batch: 1, hiddenDim: 640, gateDim: 2048, numQueryHeads: 4, numKeyValueHeads: 1, headDim: 256};
  for (const name of ['BFLOAT16', 'INT8', 'INT4']) {
    const type = simd[name];
    for (const position of [64, 511, 2000]) {
      let at = start;
      const take = bytes => {
        at += Math.ceil(bytes / 64) * 64;
        return at - Math.ceil(bytes / 64) * 64;
      };
      const dense = (rows, columns) => ({type, w: take(simd.packedBytes(type, rows, columns))});
      const capacity = position + 1;
      const shared = {
        ...sizes,
        x: take(2560),
        y: take(2560),
        epsilon: 1e-6,
        scale: 1 / 16,
        capacity,
        positions: take(4),
        cos: take(512),
        sin: take(512),
        tableRows: 1,
        workspace: take(simd.fusedBlockWorkspaceBytes(sizes, engine.threads)),
      };
      new Int32Array(engine.memory.buffer, shared.positions)[0] = position;
      const blocks = Array.from({length: 18}, () => {
        const norm = take(2560);
        return simd.fusedBlock({
          ...shared,
          norms: {preAttention: norm, postAttention: norm, preFfw: norm, postFfw: norm, query: norm, key: norm},
          cachedKeys: take(capacity * 1024),
          cachedValues: take(capacity * 1024),
          query: dense(1024, 640),
          key: dense(256, 640),
          value: dense(256, 640),
          output: dense(640, 1024),
          gate: dense(2048, 640),
          up: dense(2048, 640),
          down: dense(640, 2048),
        });
      });
      const ms = time(() => blocks.forEach(run), 1);
      const bytes = at - start;
      const plain = time(() => run(simd.read({at: start, bytes})), 1);
      console.log(
        `${pad(`18 blocks, ${name}, ${position}`, 28)} ${ms.toFixed(2)} ms per token, ` +
          `${((plain * 100) / ms).toFixed(0)} % of reading its ${(bytes / 1e6).toFixed(0)} MB`,
      );
    }
  }
}

const threads = process.argv.slice(2).map(Number);
for (const count of threads.length ? threads : [1, 2]) await measure(count, undefined);
