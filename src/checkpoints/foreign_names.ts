/** The contract between a model and the formats of other programs, which have their own names for its weights. */
import {type Arrangement} from './arrangement';

/** A weight as `ForeignNames` sees it. */
export interface NamedWeight {
  /** Its path in this package, such as `decoder_block_0/attention/query/kernel`. */
  readonly originalName: string;
  readonly shape: readonly number[];
}

/** The tensor in which another program keeps a weight. */
export interface ForeignTensor extends Arrangement {
  readonly name: string;
}

/**
 * The names that another program has for the weights of a model. Readers and writers use the same table: `inverse`
 * reverses an arrangement.
 */
export interface ForeignNames {
  /** @throws Error if the other program has no such weight. */
  tensorOf(weight: NamedWeight): ForeignTensor;
}
