/** The module's exports. `../engine/simd_engine.ts` creates one instance per thread and memory and calls them. */
import {argMax} from './kernels/arg_max';
import {combineTensors} from './kernels/arithmetic';
import {attention} from './kernels/attention';
import {attentionGradient} from './kernels/attention_gradient';
import {batchMatMul} from './kernels/batch_mat_mul';
import {fusedBlock, fusedBlocks} from './kernels/fused_block';
import {gatedGelu, gelu, geluGradient} from './kernels/gelu';
import {headLoss} from './kernels/head_loss';
import {matMul} from './kernels/mat_mul';
import {matMulTransposed} from './kernels/mat_mul_transposed';
import {columnSums, layerNorm, normGradientScale, normGradientX, rmsNorm} from './kernels/norms';
import {gather, pack, unpack, widen} from './kernels/pack';
import {rotary} from './kernels/rotary';
import {draw, softmax, softmaxSums} from './kernels/softmax';
import {topK} from './kernels/top_k';
import {transpose} from './kernels/transpose';
import {ReadWord} from './layouts/read';
import {
  ARG_MAX,
  ATTENTION,
  ATTENTION_GRADIENT,
  BATCH_MAT_MUL,
  BYTE_TILES,
  COLUMN_SUMS,
  COMBINE,
  DRAW,
  ELSEWHERE,
  END,
  FUSED_BLOCK,
  FUSED_BLOCKS,
  GATED_GELU,
  GATHER,
  GELU,
  GELU_GRADIENT,
  HEAD_LOSS,
  IDLE,
  INT8_KERNEL,
  LAYER_NORM,
  MAT_MUL,
  MAT_MUL_TRANSPOSED,
  NORM_GRADIENT_SCALE,
  NORM_GRADIENT_X,
  NOTHING,
  PACK,
  READ,
  READ_AHEAD,
  RECEIVE,
  RMS_NORM,
  ROTARY,
  SOFTMAX,
  SOFTMAX_SUMS,
  TOP_K,
  TRANSPOSE,
  UNPACK,
  WIDE,
  WORD_TILES,
  WIDEN,
} from './numbers';
import {startExponential} from './parts/exponential';
import {startGelu} from './parts/gelu_row';
import {setInt8Kernel, setIntegerTiles} from './parts/int8_kernel';
import {setReadsAhead, startStreams} from './parts/stream';
import {
  bankNumber,
  barrier,
  begin,
  chunkOf,
  claim,
  commandNumber,
  end,
  nextCommand,
  pointer,
  scratch,
  seenGeneration,
  setThread,
} from './parts/threads';
import {height, interleavedBytes, setWide, tiles} from './parts/tile';
import {startWeights} from './parts/weigh';
import {tryInt8Kernel} from './parts/try_int8';
import {tryIntegerTiles} from './parts/try_integer_tiles';

export {tryInt8Kernel, tryIntegerTiles};

/** Values per row in `tryTiles`. */
const TRIED_DEPTH = 256;

export function start(thread: i32, threads: i32): void {
  setThread(thread, threads);
  startStreams();
  startExponential();
  startWeights();
  startGelu();
}

/** Runs this thread's part of a command. */
export function execute(command: i32): void {
  setWide(load<i32>(WIDE) != 0);
  setInt8Kernel(load<i32>(INT8_KERNEL));
  setIntegerTiles(load<i32>(BYTE_TILES) != 0, load<i32>(WORD_TILES) != 0);
  setReadsAhead(load<i32>(READ_AHEAD) != 0);
  switch (command) {
    case NOTHING:
    case RECEIVE:
      break;
    case READ:
      read();
      break;
    case PACK:
      pack();
      break;
    case UNPACK:
      unpack();
      break;
    case MAT_MUL:
      matMul();
      break;
    case MAT_MUL_TRANSPOSED:
      matMulTransposed();
      break;
    case WIDEN:
      widen();
      break;
    case GATHER:
      gather();
      break;
    case RMS_NORM:
      rmsNorm();
      break;
    case ROTARY:
      rotary();
      break;
    case GATED_GELU:
      gatedGelu();
      break;
    case ATTENTION:
      attention();
      break;
    case ARG_MAX:
      argMax();
      break;
    case FUSED_BLOCK:
      fusedBlock();
      break;
    case FUSED_BLOCKS:
      fusedBlocks();
      break;
    case TOP_K:
      topK();
      break;
    case SOFTMAX:
      softmax();
      break;
    case SOFTMAX_SUMS:
      softmaxSums();
      break;
    case DRAW:
      draw();
      break;
    case BATCH_MAT_MUL:
      batchMatMul();
      break;
    case ATTENTION_GRADIENT:
      attentionGradient();
      break;
    case LAYER_NORM:
      layerNorm();
      break;
    case NORM_GRADIENT_X:
      normGradientX();
      break;
    case NORM_GRADIENT_SCALE:
      normGradientScale();
      break;
    case COLUMN_SUMS:
      columnSums();
      break;
    case GELU:
      gelu();
      break;
    case GELU_GRADIENT:
      geluGradient();
      break;
    case COMBINE:
      combineTensors();
      break;
    case TRANSPOSE:
      transpose();
      break;
    case HEAD_LOSS:
      headLoss();
      break;
    default:
      unreachable();
  }
  // The next command overwrites the arguments, so no thread may still be reading them.
  barrier();
}

/** For workers, in bank 0: runs commands until the worker must do something else, and returns the reason. */
export function serve(polls: i32): i32 {
  while (nextCommand(polls)) {
    if (bankNumber() != 0) return ELSEWHERE;
    const command = commandNumber();
    if (command == END) return END;
    execute(command);
    if (command == RECEIVE) return RECEIVE;
  }
  return IDLE;
}

/** The generation of the last command that `serve` saw. A worker waits for it to change. */
export function seen(): i32 {
  return seenGeneration();
}

/** READ: reads memory and does nothing else. The speed of other commands is measured against it. */
function read(): void {
  const at = pointer(ReadWord.at);
  const lines = <i32>(pointer(ReadWord.bytes) >> 6);
  let a = i32x4.splat(0);
  let b = a;
  while (claim(lines, chunkOf(lines, 64))) {
    let p = at + ((<usize>begin) << 6);
    for (let count = end - begin; count > 0; count--, p += 64) {
      a = i32x4.add(a, i32x4.add(v128.load(p), v128.load(p, 16)));
      b = i32x4.add(b, i32x4.add(v128.load(p, 32), v128.load(p, 48)));
    }
  }
  v128.store(scratch(), i32x4.add(a, b));
}

/**
 * True if relaxed instructions compute the results that the kernels rely on. Some engines' baseline compilers got them
 * wrong.
 *
 * @param factor Any nonzero number. It is an argument so that the compiler cannot compute the result in advance.
 */
export function selfTest(factor: f32): bool {
  const at = scratch();
  const x = f32x4.splat(factor);
  let sum = f32x4.splat(0);
  for (let i = 0; i < 8; i++) {
    if (ASC_FEATURE_RELAXED_SIMD) sum = f32x4.relaxed_madd(x, f32x4.splat(<f32>i), sum);
    else sum = f32x4.add(f32x4.mul(x, f32x4.splat(<f32>i)), sum);
  }
  v128.store(at, sum);
  for (let lane: usize = 0; lane < 16; lane += 4) {
    if (load<f32>(at + lane) != <f32>28 * factor) return false;
  }
  return true;
}

/**
 * Multiplies the rows of a tile by sixteen columns, `times` times, so that the caller can time it. Overwrites scratch
 * memory. All values are zero: what another trial leaves there may be denormal numbers, which are slow.
 */
export function tryTiles(wide: bool, times: i32): void {
  const panels = scratch();
  const y = panels + TRIED_DEPTH * 64;
  const x = y + 1024;
  setWide(wide);
  memory.fill(panels, 0, TRIED_DEPTH * 64 + 1024 + interleavedBytes(height, TRIED_DEPTH));
  for (; times > 0; times--) tiles(x, panels, TRIED_DEPTH * 32, 32, TRIED_DEPTH, y, 64, height, 16, true);
}
