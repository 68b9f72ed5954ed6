/**
 * The largest values of rows. First each workgroup finds the candidates of a piece of a row in shared memory, then one
 * workgroup for each row picks from the candidates. Both repeatedly take the best value that comes after the last one.
 */
import {type Program} from '../program';
import {ORDER} from './order';

const SIZE = 64;

/** Columns of a piece. */
export const TOP_K_PIECE = 1024;

const REDUCE = `
    keys[lane] = key;
    places[lane] = place;
    for (var step = SIZE / 2u; step > 0u; step /= 2u) {
      workgroupBarrier();
      if (lane < step) {
        let other = lane + step;
        if (keys[other] > keys[lane] || (keys[other] == keys[lane] && places[other] < places[lane])) {
          keys[lane] = keys[other];
          places[lane] = places[other];
        }
      }
    }
    workgroupBarrier();`;

/** Whether (key, place) comes after the last best, and is better than the best so far. NaN has the key 0. */
const TAKE = `
      let after = own < lastKey || (own == lastKey && at > lastPlace);
      let first = turn == 0u;
      if ((first || after) && (own > key || (own == key && at < place))) {
        key = own;
        place = at;
      }`;

const START = `
    var key = 0u;
    var place = 0xffffffffu;`;

/** x (rows, columns) → candidates (rows, pieces, 2, kept): keys, then columns. A workgroup for each piece. */
export const topKCandidates: Program = {
  name: 'top_k candidates',
  size: SIZE,
  reads: {x: 'array<u32>'},
  writes: {candidates: 'array<u32>'},
  numbers: {rows: 'u32', columns: 'u32', pieces: 'u32', kept: 'u32'},
  declarations: `${ORDER}
var<workgroup> keys: array<u32, ${SIZE}>;
var<workgroup> places: array<u32, ${SIZE}>;
var<workgroup> piece: array<u32, ${TOP_K_PIECE}>;`,
  body: `
  if (group >= n.rows * n.pieces) { return; }
  let row = group / n.pieces;
  let begin = (group % n.pieces) * ${TOP_K_PIECE}u;
  let count = min(${TOP_K_PIECE}u, n.columns - begin);
  for (var i = lane; i < count; i += SIZE) {
    let bits = x[row * n.columns + begin + i];
    piece[i] = select(keyOfFloat(bits), 0u, isNan(bits));
  }
  workgroupBarrier();
  var lastKey = 0xffffffffu;
  var lastPlace = 0u;
  for (var turn = 0u; turn < n.kept; turn++) {${START}
    for (var i = lane; i < count; i += SIZE) {
      let own = piece[i];
      let at = begin + i;${TAKE}
    }${REDUCE}
    lastKey = keys[0];
    lastPlace = places[0];
    if (lane == 0u) {
      let to = group * 2u * n.kept + turn;
      candidates[to] = lastKey;
      candidates[to + n.kept] = lastPlace;
    }
    workgroupBarrier();
  }`,
};

/**
 * x, candidates → the k largest: (rows, 2, k) values and then columns as float32, where the first value of a row with a
 * NaN is NaN; or if `apart`, values (rows, k) and columns as int32 (rows, k), without that mark.
 */
export const topKPick = (apart: boolean): Program => ({
  name: `top_k pick${apart ? ' apart' : ''}`,
  size: SIZE,
  reads: {x: 'array<u32>', candidates: 'array<u32>'},
  writes: apart ? {values: 'array<u32>', indices: 'array<u32>'} : {y: 'array<u32>'},
  numbers: {rows: 'u32', columns: 'u32', pieces: 'u32', kept: 'u32', k: 'u32'},
  declarations: `${ORDER}
var<workgroup> keys: array<u32, ${SIZE}>;
var<workgroup> places: array<u32, ${SIZE}>;
var<workgroup> nans: array<u32, ${SIZE}>;`,
  body: `
  if (group >= n.rows) { return; }
  var nan = 0u;
  ${apart ? '' : 'for (var i = lane; i < n.columns; i += SIZE) { nan |= u32(isNan(x[group * n.columns + i])); }'}
  nans[lane] = nan;
  var lastKey = 0xffffffffu;
  var lastPlace = 0u;
  let from_ = group * n.pieces * 2u * n.kept;
  for (var turn = 0u; turn < n.k; turn++) {${START}
    for (var i = lane; i < n.pieces * n.kept; i += SIZE) {
      let c = from_ + (i / n.kept) * 2u * n.kept + i % n.kept;
      let own = candidates[c];
      let at = candidates[c + n.kept];${TAKE}
    }${REDUCE}
    lastKey = keys[0];
    lastPlace = places[0];
    if (lane == 0u) {
      var value = x[group * n.columns + min(lastPlace, n.columns - 1u)];
      if (turn == 0u) {
        for (var i = 0u; i < SIZE; i++) { if (nans[i] != 0u) { value = 0x7fc00000u; } }
      }
      ${
        apart
          ? 'values[group * n.k + turn] = value; indices[group * n.k + turn] = lastPlace;'
          : 'y[(2u * group) * n.k + turn] = value; y[(2u * group + 1u) * n.k + turn] = bitcast<u32>(f32(lastPlace));'
      }
    }
    workgroupBarrier();
  }`,
});
