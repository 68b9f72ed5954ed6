/**
 * Numbers as words whose order as unsigned integers is that of the numbers. Shaders may treat infinities and NaN as they
 * like, but words are exact.
 */
export const ORDER = `
fn isNan(bits: u32) -> bool { return (bits & 0x7fffffffu) > 0x7f800000u; }
// Both zeros are equal.
fn keyOfFloat(bits: u32) -> u32 {
  if (bits == 0x80000000u) { return 0x80000000u; }
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}
fn keyOfInt(bits: u32) -> u32 { return bits ^ 0x80000000u; }
fn floatOfKey(key: u32) -> u32 { return select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u); }
const LEAST_KEY = 0x007fffffu; // −Infinity
`;
