/** Keras' callbacks. Those of tfjs, such as `tf.callbacks.earlyStopping`, work as well. */
export {EarlyStopping, type EarlyStoppingArgs} from './early_stopping';
export {LearningRateScheduler, type RateFunction, ReduceLROnPlateau, type ReduceLROnPlateauArgs} from './learning_rate';
export {
  type CheckpointLogs,
  type CheckpointTarget,
  ModelCheckpoint,
  type ModelCheckpointArgs,
} from './model_checkpoint';
export {type MonitorArgs, type MonitorMode, type MonitorName} from './monitor';
