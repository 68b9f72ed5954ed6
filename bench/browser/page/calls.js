/** Counts all GPU calls of the page: dispatches, submissions, and bytes that are read. */

/** Runs `work` and counts meanwhile. → {dispatches, submissions, bytes} */
export async function countCalls(work) {
  const counts = {dispatches: 0, submissions: 0, bytes: 0};
  const wrapped = [
    [GPUComputePassEncoder, 'dispatchWorkgroups', () => counts.dispatches++],
    [GPUComputePassEncoder, 'dispatchWorkgroupsIndirect', () => counts.dispatches++],
    [GPUQueue, 'submit', () => counts.submissions++],
    [
      GPUBuffer,
      'mapAsync',
      (buffer, [mode, offset = 0, size = buffer.size - offset]) => {
        if (mode & GPUMapMode.READ) counts.bytes += size;
      },
    ],
  ];
  const undo = wrapped.map(([{prototype}, name, count]) => {
    const original = prototype[name];
    prototype[name] = function (...args) {
      count(this, args);
      return original.apply(this, args);
    };
    return () => (prototype[name] = original);
  });
  try {
    await work();
  } finally {
    for (const one of undo) one();
  }
  return counts;
}
