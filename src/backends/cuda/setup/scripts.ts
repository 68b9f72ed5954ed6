/** Programs in other languages that the set-up runs. */

/**
 * Python: unpacks from a wheel what is needed. Arguments: the wheel, a folder, beginnings of names.
 */
export const UNPACK = `
import sys, zipfile
wheel, folder, *beginnings = sys.argv[1:]
archive = zipfile.ZipFile(wheel)
for name in archive.namelist():
    if name.startswith(tuple(beginnings)) and not name.endswith(('.py', '.pyc', '/')):
        archive.extract(name, folder)
`;

/** Python: prints the packages that a wheel needs for GPUs, one a line. Argument: the wheel. */
export const GPU_PACKAGES = `
import re, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
name = next(n for n in archive.namelist() if n.endswith('.dist-info/METADATA'))
for line in archive.read(name).decode().splitlines():
    found = re.match(r'Requires-Dist: (nvidia[\\w-]+)\\s*([^;]*);.*and-cuda', line)
    if found:
        print(found[1] + found[2].strip('() ').replace(' ', ''))
`;

/** Python: unpacks a package of npm without its outer folder. Arguments: the package, a folder. */
export const UNTAR = `
import sys, tarfile
package, folder = sys.argv[1:]
with tarfile.open(package) as archive:
    for member in archive.getmembers():
        parts = member.name.split('/')
        if not member.isfile() or '..' in parts or member.name.startswith('/'):
            continue
        member.name = '/'.join(parts[1:])
        archive.extract(member, folder)
`;

/** Node: multiplies two matrices, and prints what it ran on. Argument: the binding. */
export const PROVE = `
const {constants} = require('node:os');
const loaded = {exports: {}};
process.dlopen(loaded, process.argv[1], constants.dlopen.RTLD_NOW);
const {exports: tf} = loaded;
const n = 64;
const a = Float32Array.from({length: n * n}, (_, i) => Math.sin(i));
const b = Float32Array.from({length: n * n}, (_, i) => Math.cos(3 * i));
const attribute = (name, type, value) => ({name, type, value});
const attributes = [
  attribute('T', tf.TF_ATTR_TYPE, tf.TF_FLOAT),
  attribute('transpose_a', tf.TF_ATTR_BOOL, false),
  attribute('transpose_b', tf.TF_ATTR_BOOL, false),
];
const inputs = [a, b].map(values => tf.createTensor([n, n], tf.TF_FLOAT, values));
const product = tf.tensorDataSync(tf.executeOp('MatMul', attributes, inputs, 1)[0].id);
let error = 0;
for (let i = 0; i < n; i++) {
  for (let j = 0; j < n; j++) {
    let sum = 0;
    for (let k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j];
    error = Math.max(error, Math.abs(sum - product[i * n + j]));
  }
}
console.log(JSON.stringify({gpu: tf.isUsingGpuDevice(), version: tf.TF_Version, error}));
`;
