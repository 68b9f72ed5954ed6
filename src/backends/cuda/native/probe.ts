/** Asks a library in a process of its own, which may end in any way: it takes hundreds of megabytes, and memory of the GPU. */
import {execFile} from 'node:child_process';
import {setEnvironment} from './binding';

/** What a library says of itself, or why it cannot be loaded. */
export type Answer = {readonly gpu: boolean; readonly version: string} | {readonly error: string};

const SCRIPT = `
  const module = {exports: {}};
  let answer;
  try {
    process.dlopen(module, process.argv[1], ${/* RTLD_NOW */ 2});
    answer = {gpu: module.exports.isUsingGpuDevice(), version: module.exports.TF_Version};
  } catch (error) {
    answer = {error: error.message};
  }
  console.log(JSON.stringify(answer));
`;

/** A GPU may take seconds to answer first. */
const LIMIT = 60_000;

export function probe(file: string): Promise<Answer> {
  setEnvironment();
  return new Promise(resolve => {
    // `execArgv` of this program, such as loaders, has nothing to do with it.
    const env = {...process.env, NODE_OPTIONS: ''};
    execFile(process.execPath, ['-e', SCRIPT, file], {env, timeout: LIMIT}, (error, stdout, stderr) => {
      const line = stdout.trim().split('\n').at(-1);
      if (line?.startsWith('{')) {
        resolve(JSON.parse(line) as Answer);
        return;
      }
      const last = stderr.trim().split('\n').at(-1);
      const how = error?.signal ? `was ended by ${error.signal}` : `ended with ${error?.code ?? 0}`;
      resolve({error: `a process that loads it ${how}${last ? `: ${last}` : ''}`});
    });
  });
}
