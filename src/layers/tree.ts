/** Walks over layers and their sub-layers. */

/** Anything with sub-layers of its own kind. */
export interface Tree<Node> {
  readonly children: readonly Node[];
}

/**
 * Yields the given layers and all layers below them, depth first.
 *
 * @param lastFirst whether to visit the sub-layers of each layer from last to first. The given layers keep their order.
 */
export function* descend<Node extends Tree<Node>>(layers: readonly Node[], lastFirst = false): Generator<Node> {
  for (const layer of layers) {
    yield layer;
    yield* descend(lastFirst ? [...layer.children].reverse() : layer.children, lastFirst);
  }
}
