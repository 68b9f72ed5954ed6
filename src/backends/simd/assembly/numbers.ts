/**
 * Numbers that both sides of the engine agree on. Plain constants, so that TypeScript and AssemblyScript read the same
 * file. What commands do and which arguments they take is told in `../commands.ts`.
 */

// Control block, byte offsets from the start of the memory. Words that different threads write have a line each.
/** Counts commands: workers wait for it to change. */
export const GENERATION = 0;
export const COMMAND = 4;
/** Number of the memory, a bank, that the command is for. Workers wait on bank 0 whatever comes next. */
export const BANK = 8;
/** Workers that sleep until `GENERATION` changes. */
export const SLEEPERS = 64;
/** Not 0 once a thread died: every other thread gives up. */
export const FAILED = 128;
/** Never written: threads take their naps on it. */
export const NAP = 192;
/** Naps of 0.1 ms that a thread takes in a barrier before it gives the others up. */
export const PATIENCE = 256;
/** One word an argument. */
export const ARGUMENTS = 1024;
export const MAX_ARGUMENTS = 256;
/** One line of 64 bytes a thread: how many barriers it has reached. */
export const PHASES = 2048;
export const MAX_THREADS = 32;

/** Scratch memory of each thread begins here, one after another. */
export const SCRATCH = 4096;
export const SCRATCH_BYTES = 1048576;
/** Its last bytes are room for one tile of a matrix product, and a row of zeros. */
export const EDGE = 384;

// Types of numbers.
export const FLOAT32 = 0;
export const BFLOAT16 = 1;
export const INT8 = 2;
export const INT4 = 3;

// Commands.
export const END = -1;
/** Workers leave their loop for a message, which brings them another bank. */
export const RECEIVE = -2;
export const NOTHING = 0;
export const READ = 1;
export const PACK = 2;
export const UNPACK = 3;
export const MAT_MUL = 4;
export const MAT_MUL_TRANSPOSED = 5;
export const GATHER = 6;
export const RMS_NORM = 7;
export const ROTARY = 8;
export const GATED_GELU = 9;
export const ATTENTION = 10;
export const ARG_MAX = 11;
export const DECODER_BLOCK = 12;
export const TOP_K = 13;
export const SOFTMAX = 14;
export const SOFTMAX_SUMS = 15;
export const DRAW = 16;
export const BATCH_MAT_MUL = 17;
export const ATTENTION_GRADIENT = 18;
export const LAYER_NORM = 19;
export const NORM_GRADIENT_X = 20;
export const NORM_GRADIENT_SCALE = 21;
export const COLUMN_SUMS = 22;
export const GELU = 23;
export const GELU_GRADIENT = 24;
export const COMBINE = 25;
export const TRANSPOSE = 26;
export const HEAD_LOSS = 27;

/** Rows of the head that HEAD_LOSS takes at a time, and tokens: what its workspace depends on. */
export const HEAD_TILE = 128;
export const HEAD_ROWS = 80;
/** Packed tokens are rounded up to a multiple of this, which both heights of tiles divide, as they do `HEAD_ROWS`. */
export const HEAD_ROUND = 20;
/** Not 0 where matrix products run on wide tiles (tile.ts). */
export const WIDE = 320;

// What `serve` comes back with, beside END and RECEIVE.
/** No command came for a while. */
export const IDLE = 0;
/** The command is for another bank. */
export const ELSEWHERE = 1;
