/** The largest or smallest value along an axis: its index, the first of equal ones. */
import {type Program} from '../program';
import {ORDER} from './order';

export interface BestVariant {
  type: 'float32' | 'int32';
  /** Whether the smallest is wanted. */
  least: boolean;
  /** Whether the index is −1 for a row that has a NaN or no value above −Infinity. Otherwise NaN is never the best. */
  strict: boolean;
}

const SIZE = 64;

/** x (outer, count, inner) → y (outer, inner). A workgroup for each result. */
export const best = ({type, least, strict}: BestVariant): Program => ({
  name: `best ${type}${least ? ' least' : ''}${strict ? ' strict' : ''}`,
  size: SIZE,
  reads: {x: 'array<u32>'},
  writes: {y: 'array<i32>'},
  numbers: {results: 'u32', count: 'u32', inner: 'u32'},
  declarations: `${ORDER}
var<workgroup> keys: array<u32, ${SIZE}>;
var<workgroup> places: array<u32, ${SIZE}>;
var<workgroup> nans: array<u32, ${SIZE}>;
fn keyOf(bits: u32) -> u32 { return ${least ? '~' : ''}${type === 'int32' ? 'keyOfInt' : 'keyOfFloat'}(bits); }`,
  body: `
  if (group >= n.results) { return; }
  let first = (group / n.inner) * n.count * n.inner + group % n.inner;
  var key = 0u;
  var place = 0xffffffffu;
  var nan = 0u;
  for (var i = lane; i < n.count; i += SIZE) {
    let bits = x[first + i * n.inner];
    ${type === 'float32' ? 'if (isNan(bits)) { nan = 1u; continue; }' : ''}
    let own = keyOf(bits);
    if (place == 0xffffffffu || own > key) {
      key = own;
      place = i;
    }
  }
  keys[lane] = key;
  places[lane] = place;
  nans[lane] = nan;
  for (var step = SIZE / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (lane < step) {
      let other = lane + step;
      nans[lane] |= nans[other];
      let better = keys[other] > keys[lane] || (keys[other] == keys[lane] && places[other] < places[lane]);
      if (places[other] != 0xffffffffu && (places[lane] == 0xffffffffu || better)) {
        keys[lane] = keys[other];
        places[lane] = places[other];
      }
    }
  }
  if (lane > 0u) { return; }
  // With NaN alone, the first.
  var result = bitcast<i32>(select(places[0], 0u, places[0] == 0xffffffffu));
  ${strict ? 'if (nans[0] != 0u || places[0] == 0xffffffffu || keys[0] <= LEAST_KEY) { result = -1; }' : ''}
  y[group] = result;`,
});
