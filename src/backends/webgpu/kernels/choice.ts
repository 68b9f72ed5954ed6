/** The choice of the next tokens on the GPU, from logits (rows, vocabulary), for programs of whole steps. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {type TokenChoice} from '../../../ops/token_program';
import {type Operand, type Runner} from '../webgpu_backend';
import {BEST_PIECE, bestOfPieces, bestPicked, drawBest, MOST_DRAWN, note, penalizeSeen} from '../wgsl/choose';
import {draw, softmaxSums} from '../wgsl/softmax';
import {runTopK, softmaxNumbers} from './sampling';

/** Whether {@link runChoice} can choose in this way. */
export const canChoose = ({draw}: TokenChoice): boolean =>
  draw === null || draw.topK === null || draw.topK <= MOST_DRAWN;

/** The state that is kept between steps, and the inputs of a step. */
export interface ChoiceState {
  /** int32 (rows, vocabulary): see `penalizeSeen`. */
  seen: TensorInfo | undefined;
  /** int32 (rows) */
  next: TensorInfo;
  /** int32 (steps, rows) */
  history: TensorInfo;
  /** float32 (rows) */
  uniforms: Operand;
  /** uint32: the index of the step. */
  step: Operand;
}

function best(backend: Runner, logits: TensorInfo, picked: TensorInfo): void {
  const [rows, columns] = logits.shape as [number, number];
  const pieces = Math.ceil(columns / BEST_PIECE);
  const candidates = backend.empty([rows, pieces, 2], 'int32');
  const numbers = {rows, columns, pieces};
  backend.run(bestOfPieces, {tensors: [logits, candidates], numbers, groups: rows * pieces});
  backend.run(bestPicked, {tensors: [candidates, picked], numbers, groups: rows});
  backend.disposeData(candidates.dataId);
}

function drawn(
  backend: Runner,
  logits: TensorInfo,
  picked: TensorInfo,
  {temperature, topK, topP, minP}: NonNullable<TokenChoice['draw']>,
  uniforms: Operand,
): void {
  const [rows, columns] = logits.shape as [number, number];
  const numbers = softmaxNumbers(logits, temperature);
  if (topK === null && topP === null && minP === 0) {
    backend.run(draw, {tensors: [logits, uniforms, picked], numbers, groups: rows});
    return;
  }
  const k = Math.min(topK ?? MOST_DRAWN, columns);
  const found = backend.empty([rows, 2, k]);
  runTopK(backend, logits, k, [found]);
  const sums = topP === null ? undefined : backend.empty([rows, 2]);
  if (sums) backend.run(softmaxSums, {tensors: [logits, sums], numbers, groups: rows});
  const tensors = [found, ...(sums ? [sums] : []), uniforms, picked];
  const more = {k, whole: Number(topK !== null || k === columns), p: topP ?? 0, minP};
  const groups = Math.ceil(rows / 64);
  backend.run(drawBest({sums: !!sums}), {tensors, numbers: {...numbers, ...more}, groups});
  for (const {dataId} of [found, ...(sums ? [sums] : [])]) backend.disposeData(dataId);
}

/** Chooses a token for each row, and records it. Penalties change the logits. */
export function runChoice(backend: Runner, logits: TensorInfo, choice: TokenChoice, state: ChoiceState): void {
  const [rows, columns] = logits.shape as [number, number];
  const {seen, next, history, uniforms, step} = state;
  if (seen) {
    const count = rows * columns;
    const numbers = {count, ...choice.penalties!};
    backend.run(penalizeSeen, {tensors: [seen, logits], numbers, groups: Math.ceil(count / 64)});
  }
  const picked = backend.empty([rows], 'int32');
  if (choice.draw) drawn(backend, logits, picked, choice.draw, uniforms);
  else best(backend, logits, picked);
  const tensors = [picked, step, history, next, ...(seen ? [seen] : [])];
  backend.run(note({penalized: !!seen}), {tensors, numbers: {rows, columns}, groups: Math.ceil(rows / 64)});
  backend.disposeData(picked.dataId);
}
