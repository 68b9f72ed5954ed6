/** A set of byte strings, stored as a trie to find the longest one at a position in a text. */
export class PrefixSet {
  /** Maps node * 256 + byte to the next node. The root is node 0. */
  private readonly children = new Map<number, number>();
  /** Whether a string ends at the node. */
  private readonly isEnd: boolean[] = [false];

  /** Adds `bytes[start .. end]`. */
  add(bytes: Uint8Array, start: number, end: number): void {
    let node = 0;
    for (let i = start; i < end; i++) {
      const edge = node * 256 + bytes[i]!;
      let child = this.children.get(edge);
      if (child === undefined) {
        child = this.isEnd.push(false) - 1;
        this.children.set(edge, child);
      }
      node = child;
    }
    this.isEnd[node] = true;
  }

  /** The length of the longest string of the set at `offset` of `text`, 0 if there is none. */
  longestAt(text: Uint8Array, offset: number): number {
    let node = 0;
    let length = 0;
    for (let i = offset; i < text.length; i++) {
      const child = this.children.get(node * 256 + text[i]!);
      if (child === undefined) break;
      node = child;
      if (this.isEnd[node]) length = i + 1 - offset;
    }
    return length;
  }
}
