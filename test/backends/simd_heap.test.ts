/** The heap over several memories, without an engine that runs anything. */
import {type SimdEngine} from '../../src/backends/simd/engine/simd_engine';
import {Heap, type Place} from '../../src/backends/simd/memory/heap';

const PAGE = 65536;
const MIB = 2 ** 20;
/** Small blocks of a bank share a range of this size. */
const SMALL_RANGE = 2 ** 18;
const SMALL = 2 ** 16;

function heapOf(bankMiB: number, maximumBanks = 3): Heap {
  const maximum = (bankMiB * MIB) / PAGE;
  const addBank = () => {
    if (banks.length === maximumBanks) return undefined;
    const bank = {memory: new WebAssembly.Memory({initial: 1, maximum})};
    banks.push(bank);
    return bank;
  };
  const banks: {memory: WebAssembly.Memory}[] = [];
  addBank();
  return new Heap({banks, addBank, staticBytes: PAGE, maximumBytes: maximum * PAGE} as unknown as SimdEngine);
}

describe('small blocks that do not last', () => {
  test('do not split what large ones leave behind', () => {
    const heap = heapOf(64);
    heap.release({bank: 0, offset: heap.allocateIn(0, 1000)!}, 1000);
    const large = heap.allocateIn(0, 8 * MIB)!;
    const above = heap.allocateIn(0, MIB);
    heap.release({bank: 0, offset: large}, 8 * MIB);
    const small = Array.from({length: 8}, (_, i) => heap.allocateIn(0, 1000 + i)!);
    expect(heap.allocateIn(0, 8 * MIB)).toBe(large);
    expect(above).toBeGreaterThan(large);
    expect(new Set(small).size).toBe(8);
    for (const offset of small) expect([offset % 64, offset < large]).toEqual([0, true]);
  });

  test('are reused, and lie elsewhere when their range is full', () => {
    const heap = heapOf(64);
    const count = (2 * SMALL_RANGE) / SMALL;
    const take = () => Array.from({length: count}, () => heap.allocateIn(0, SMALL)!);
    const first = take();
    expect(new Set(first).size).toBe(count);
    expect(heap.used).toBe(count * SMALL);
    for (const offset of first) heap.release({bank: 0, offset}, SMALL);
    expect(heap.used).toBe(0);
    const {reserved} = heap;
    expect(new Set(take())).toEqual(new Set(first));
    expect(heap.reserved).toBe(reserved);
  });

  test('take nothing from a bank that is full of large ones once they are gone', () => {
    const heap = heapOf(8, 1);
    const whole = 8 * MIB - PAGE - 64;
    const small = heap.allocateIn(0, 100)!;
    expect(heap.allocateIn(0, whole)).toBeNull();
    expect(heap.used).toBe(128);
    heap.release({bank: 0, offset: small}, 100);
    const all = heap.allocateIn(0, whole)!;
    expect(all).toBe(PAGE);
    expect(heap.allocateIn(0, 100)).toBeNull();
    heap.release({bank: 0, offset: all}, whole);
    expect(heap.used).toBe(0);
    expect(heap.allocateIn(0, 100)).toBe(PAGE);
  });

  test('leave long-lived blocks of their size alone', () => {
    const heap = heapOf(64);
    const small = heap.allocateIn(0, 100)!;
    const {bank, offset} = heap.allocateLasting(100);
    expect(bank).toBe(0);
    expect(offset >= small + SMALL_RANGE).toBe(true);
    heap.release({bank, offset}, 100);
    heap.release({bank: 0, offset: small}, 100);
    expect(heap.used).toBe(0);
  });
});

describe('long-lived blocks', () => {
  test('stay together: a small one follows the large one before it', () => {
    const heap = heapOf(8);
    const banks = [4, 1, 4, 0.01, 3, 0.01].map(mib => heap.allocateLasting(mib * MIB).bank);
    expect(banks).toEqual([0, 0, 1, 1, 2, 2]);
  });

  test('fill what was freed in an earlier bank before a bank is added', () => {
    const heap = heapOf(8);
    const places = [4, 4].map(mib => heap.allocateLasting(mib * MIB));
    expect(places.map(({bank}) => bank)).toEqual([0, 1]);
    heap.release(places[0]!, 4 * MIB);
    expect(heap.allocateLasting(4 * MIB).bank).toBe(0);
    expect(heap.banks).toBe(2);
  });

  test('use the spare part of banks when none can be added', () => {
    const heap = heapOf(8, 1);
    const places: Place[] = [5, 2].map(mib => heap.allocateLasting(mib * MIB));
    expect(places.map(({bank}) => bank)).toEqual([0, 0]);
    expect(() => heap.allocateLasting(4 * MIB)).toThrow(/out of memory|memory/i);
  });
});
