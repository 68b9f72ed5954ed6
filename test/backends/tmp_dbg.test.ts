import {SimdEngine} from '../../src/backends/simd/simd_engine';
test('x', async () => {
  const e = await SimdEngine.create({threads: 2});
  const c = new Int32Array(e.memory.buffer, 0, 1024);
  const k = (e as any).kernels;
  const t = performance.now();
  Atomics.add(c, 0, 1);
  const f0 = c[32];
  let m = '';
  try {k.execute(0);} catch (x) { m = (x as Error).stack!; }
  console.log(f0, performance.now() - t, m, Array.from(c).map((v,i)=>v?[i,v]:0).filter(x=>x).join(' '));
  await new Promise(r => setTimeout(r, 200));
  await e.dispose();
});
