/**
 * Numbers that both sides of the engine agree on: the control block, number types and command numbers. Plain constants,
 * so that TypeScript and AssemblyScript read the same file.
 */

// Control block: byte offsets from the start of the memory. Words that different threads write are on separate cache
// lines.

/** Counts commands. Workers wait for it to change. */
export const GENERATION = 0;
export const COMMAND = 4;
/** The bank (memory) that the command is for. Workers always wait on bank 0. */
export const BANK = 8;
/** How many workers sleep until `GENERATION` changes. */
export const SLEEPERS = 64;
/** Nonzero once a thread has died. Every other thread then gives up. */
export const FAILED = 128;
/** How many threads sleep at a barrier, or are about to, until the phase of another thread changes. */
export const SLEEPERS_AT_BARRIER = 192;
/** The longest that a thread sleeps at a barrier before it looks again. */
export const WAIT_MILLISECONDS = 5;
/** How many times a thread sleeps at a barrier before it gives up on the others. */
export const PATIENCE = 256;
/** Nonzero if matrix products run on wide tiles (`parts/tile.ts`). */
export const WIDE = 320;
/** The kernel for products of one row with int8 (`parts/int8_row.ts`). */
export const INT8_KERNEL = 324;
/** Nonzero if products of many rows with integer weights multiply bytes (`parts/byte_tile.ts`). */
export const BYTE_TILES = 328;
/** Nonzero if the others multiply 16-bit integers (`parts/integer_tile.ts`) even where there are wide tiles. */
export const WORD_TILES = 336;
/** Nonzero if products of one row read their weights ahead (`parts/stream.ts`). */
export const READ_AHEAD = 332;
/** Two counters of claimed items, used in turn: one cache line of 64 bytes each. See `parts/threads.ts`. */
export const CLAIMS = 384;
/** One word per argument: see `layouts`. */
export const ARGUMENTS = 1024;
export const MAX_ARGUMENTS = 256;
/** How many barriers each thread has reached: one cache line of 64 bytes per thread. */
export const PHASES = 2048;
export const MAX_THREADS = 32;

/** Scratch memory begins here, with one region per thread. */
export const SCRATCH = 4096;
export const SCRATCH_BYTES = 1048576;
/** The last bytes of a thread's scratch memory hold one tile of a matrix product and a row of zeros. */
export const EDGE = 384;

// Number types.

export const FLOAT32 = 0;
export const BFLOAT16 = 1;
export const INT8 = 2;
export const INT4 = 3;

// Kernels for products of one row with int8.

/** Multiplies in 16-bit integers. */
export const INT8_WORDS = 0;
/** Multiplies in bytes, those of the weights unsigned. */
export const INT8_UNSIGNED_BYTES = 1;
/** Multiplies in bytes, those of the weights signed. */
export const INT8_SIGNED_BYTES = 2;

// Commands.

export const END = -1;
/** Workers leave their loop to receive a message, which brings them another bank. */
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
export const FUSED_BLOCK = 12;
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
export const FUSED_BLOCKS = 28;
export const WIDEN = 29;

// What `serve` returns, apart from END and RECEIVE.

/** No command came for a while. */
export const IDLE = 0;
/** The command is for another bank. */
export const ELSEWHERE = 1;
