/** Yields to the event loop in programs that run the browser build in Node. */
import {nextTurn} from '../../src/platform/browser/turn';

const ports = () => process.getActiveResourcesInfo().filter(name => name === 'MessagePort').length;

test('turns come in order, and keep a process alive only while something waits for them', async () => {
  const before = ports();
  const order: number[] = [];
  const turns = [0, 1, 2].map(async i => {
    await nextTurn();
    order.push(i);
  });
  expect(ports()).toBeGreaterThan(before);
  await Promise.all(turns);
  expect(order).toEqual([0, 1, 2]);
  expect(ports()).toBe(before);
  await nextTurn();
  expect(ports()).toBe(before);
});
