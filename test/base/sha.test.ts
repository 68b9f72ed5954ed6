/** SHA-1 and SHA-256 against Node's. */
import {createHash} from 'node:crypto';
import {Sha} from '../../src/base/sha';
import {randomBytes} from '../support/random_bytes';

describe.each(['sha1', 'sha256'] as const)('%s', algorithm => {
  test.each([0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000, 100_003])('%d bytes, in pieces', length => {
    const bytes = randomBytes(length, length);
    const sha = new Sha(algorithm);
    for (let at = 0, size = 1; at < length; at += size, size = ((size * 7 + 3) % 200) + 1) {
      // The next size follows from this one, so the piece is cut before it changes.
      sha.update(bytes.subarray(at, Math.min(length, at + size)));
    }
    expect(sha.digest()).toBe(createHash(algorithm).update(bytes).digest('hex'));
  });
});
