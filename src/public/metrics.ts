/** Metrics of Keras and KerasHub. */
export {
  Metric,
  type MetricArgs,
  type MetricLike,
  type MetricName,
  Perplexity,
  type PerplexityArgs,
  SparseCategoricalAccuracy,
  SparseCategoricalCrossentropy,
  SparseTopKCategoricalAccuracy,
  type TokenFunction,
  type TopKArgs,
} from '../training/metrics';
