/** The JavaScript work for tokens on the backend `webgpu`, and the same WebGPU calls alone: for Node and for pages. */

/** Catches the calls of compute passes while `work` runs. → those of each pass, in order */
async function catchPasses(work) {
  const passes = [];
  const {prototype} = GPUComputePassEncoder;
  const undo = ['setPipeline', 'setBindGroup', 'dispatchWorkgroups'].map(name => {
    const original = prototype[name];
    prototype[name] = function (...args) {
      if (passes.at(-1)?.pass !== this) passes.push({pass: this, calls: []});
      passes.at(-1).calls.push([name, args]);
      return original.apply(this, args);
    };
    return () => (prototype[name] = original);
  });
  try {
    await work();
  } finally {
    for (const one of undo) one();
  }
  return passes.map(({calls}) => calls);
}

/** The calls of a step as dispatches, each with the state set before it. */
function dispatchesOf(calls) {
  const dispatches = [];
  let next = {};
  for (const [name, args] of calls) {
    if (name === 'setPipeline') next.pipeline = args[0];
    else if (name === 'setBindGroup') next.group = args;
    else {
      dispatches.push({...next, grid: args});
      next = {};
    }
  }
  return dispatches;
}

/** Only the calls: encoders, passes, submissions and reads, as many steps at once as the decoder runs at most. */
async function callsAlone(device, dispatches, tokens, steps) {
  const usage = GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ;
  const readers = [0, 1].map(() => device.createBuffer({size: 4 * steps, usage}));
  const source = device.createBuffer({size: 4 * steps, usage: GPUBufferUsage.COPY_SRC});
  const reads = [];
  for (let run = 0; run < Math.ceil(tokens / steps); run++) {
    const reader = readers[run % 2];
    if (reads.length === 2) {
      await reads.shift();
      reader.unmap();
    }
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let step = 0; step < steps; step++) {
      for (const {pipeline, group, grid} of dispatches) {
        if (pipeline) pass.setPipeline(pipeline);
        if (group) pass.setBindGroup(...group);
        pass.dispatchWorkgroups(...grid);
      }
    }
    pass.end();
    encoder.copyBufferToBuffer(source, 0, reader, 0, 4 * steps);
    device.queue.submit([encoder.finish()]);
    reads.push(reader.mapAsync(GPUMapMode.READ, 0, 4 * steps));
  }
  await Promise.all(reads);
  for (const buffer of [...readers, source]) buffer.destroy();
}

/**
 * Generates tokens, and then makes only the calls for as many tokens.
 *
 * @param before how many tokens come before those that are measured: a cache grows at 256 and at 512 tokens
 * @param clock what is counted, in milliseconds
 * @returns for a token: all that was counted; for the `calls` alone; how many `dispatches` it takes, and how many tokens
 * are in a submission, `atOnce`
 */
export async function measureTokens(lm, device, {before, tokens}, clock) {
  const session = lm.startSession({maxLength: 1024});
  const request = {prompts: [{tokens: [2, 5, 9]}], maxLength: 1000, stopTokenIds: null, sampler: lm.sampler};
  const steps = session.steps(request);
  let count = 0;
  const generate = async target => {
    while (count < target) count += (await steps.next()).value.tokens.length;
  };
  await generate(before);
  const begin = await clock();
  const first = count;
  await generate(before + tokens);
  const token = ((await clock()) - begin) / (count - first);
  const passes = await catchPasses(() => generate(count + 16));
  // Of several steps in a pass, the first ends where its first pipeline comes again.
  const all = dispatchesOf(passes.at(-1));
  const again = all.findIndex(({group}, i) => i > 0 && group[1] === all[0].group[1]);
  const dispatches = all.slice(0, again < 0 ? all.length : again);
  const atOnce = Math.round(all.length / dispatches.length);
  const runs = Math.ceil(tokens / atOnce) * atOnce;
  await callsAlone(device, dispatches, runs, atOnce);
  const alone = await clock();
  await callsAlone(device, dispatches, runs, atOnce);
  const calls = ((await clock()) - alone) / runs;
  await steps.return();
  session.dispose();
  return {token, calls, dispatches: dispatches.length, atOnce};
}
