/** One generator of seedrandom. The package's own types describe only the file that has all of them. */
declare module 'seedrandom/lib/alea.js' {
  import {type alea} from 'seedrandom';

  const generator: typeof alea;
  export default generator;
}
