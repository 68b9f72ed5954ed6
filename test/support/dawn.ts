/** The package "webgpu", which jest cannot import as the module that it is: its native part, for this platform. */
const folder = `${process.platform}-${process.platform === 'darwin' ? 'universal' : process.arch}`;
// eslint-disable-next-line @typescript-eslint/no-require-imports
export const {create, globals} = require(`../../node_modules/webgpu/dist/${folder}/dawn.node`) as {
  create(options: string[]): object;
  globals: object;
};
