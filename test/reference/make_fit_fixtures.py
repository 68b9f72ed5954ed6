"""Writes test/fixtures/training/fit.json: runs of `fit` in Python KerasHub with metrics, losses and callbacks.

    python test/reference/make_fit_fixtures.py [PART…]

Without arguments, all parts are computed. Run make_training_fixtures.py first: the language model and its data are those of test/fixtures/training, the embedder is
that of test/fixtures/embedder/mean. Weights are stored as numbers.
"""

import json
import os
import sys
import tempfile

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from keras import callbacks, ops, optimizers
from make_training_fixtures import FOLDER, make_backbone

METRICS = keras.metrics
with open(os.path.join(FOLDER, "cases.json")) as file:
    MODEL = json.load(file)["models"]["text"]
VALUES = np.fromfile(os.path.join(FOLDER, "values.bin"), "<f4")
X = {name: np.array(value, "int32") for name, value in MODEL["x"].items()}
Y = np.array(MODEL["y"], "int32")
WEIGHTS = np.array(MODEL["sampleWeight"], "float32")
# The class of a row is the largest of its labels, and every class needs a weight.
CLASS_WEIGHT = {i: 0.5 + i / 4 for i in range(64)}
TEXTS = ["the quick brown fox", "a lazy dog", "jumped over the fence", "round and round", "the end"]


def backbone():
    model = make_backbone(False)
    at, values = MODEL["weights"][0], []
    for shape in MODEL["shapes"]:
        size = int(np.prod(shape))
        values.append(VALUES[at : at + size].reshape(shape))
        at += size
    model.set_weights(values)
    return model


def flat(model):
    return [round(float(v), 7) for w in model.trainable_weights for v in w.numpy().ravel()]


def numbers(history):
    return {name: [float(v) for v in values] for name, values in history.history.items()}


def compiled(rate=0.5, **args):
    lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=backbone(), compile=False)
    args = {"weighted_metrics": None, "optimizer": optimizers.SGD(rate), **args}
    lm.compile(run_eagerly=True, **args)
    return lm


def fit(model, **args):
    args = {"sample_weight": WEIGHTS, "batch_size": 4, "epochs": 2, **args}
    return numbers(model.fit(X, Y, shuffle=False, verbose=0, **args))


def focal(y_true, y_pred):
    loss = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
    return (1 - ops.exp(-loss)) ** 2 * loss


def margin(y_true, y_pred):
    best = ops.max(y_pred, -1)
    right = ops.sum(y_pred * ops.one_hot(y_true, y_pred.shape[-1]), -1)
    return best - right


class Half(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return focal(y_true, y_pred) / 2


def metrics():
    perplexity = keras_hub.metrics.Perplexity
    plain = ["accuracy", perplexity(from_logits=True), METRICS.SparseTopKCategoricalAccuracy(k=3), margin]
    weighted = [
        "accuracy",
        METRICS.SparseCategoricalAccuracy(),
        METRICS.SparseCategoricalCrossentropy(from_logits=True),
        perplexity(from_logits=True, mask_token_id=7),
        margin,
    ]
    lm = compiled(metrics=plain, weighted_metrics=weighted)
    result = {"history": fit(lm, validation_split=0.2), "final": flat(lm)}
    lm.reset_metrics()
    logs = lm.test_on_batch(X, Y, WEIGHTS, return_dict=True)
    result["testOnBatch"] = {name: float(value) for name, value in logs.items()}
    return result


def losses():
    runs = {}
    for name, loss, weights in (
        ("function", focal, WEIGHTS),
        ("function without weights", focal, None),
        ("mean_with_sample_weight", Half(reduction="mean_with_sample_weight"), WEIGHTS),
        ("sum", Half(reduction="sum"), WEIGHTS),
    ):
        lm = compiled(rate=0.02 if name == "sum" else 0.5, loss=loss, weighted_metrics=["accuracy"])
        runs[name] = {"history": fit(lm, sample_weight=weights), "final": flat(lm)}
    return runs


def classes():
    """Keras weighs tokens by their class where labels have the shape (B, T, 1), in `fit` with arrays and datasets."""
    lm = compiled(weighted_metrics=["accuracy"])
    labels = Y[..., None]
    args = dict(batch_size=4, epochs=2, shuffle=False, verbose=0, validation_split=0.2)
    history = numbers(lm.fit(X, labels, class_weight=CLASS_WEIGHT, **args))
    runs = {"all": {"history": history, "final": flat(lm)}}
    # A class without a weight has the weight 1. TensorFlow needs a weight for the last class, to gather from.
    few = {0: 0.0, 8: 3.0, 39: 1.0}
    lm = compiled(weighted_metrics=["accuracy"])
    dataset = tf.data.Dataset.from_tensor_slices((X, labels)).batch(4)
    history = numbers(lm.fit(dataset, class_weight=few, epochs=2, verbose=0))
    runs["few, in a dataset"] = {"history": history, "final": flat(lm)}
    return runs


def rates():
    runs = {}
    lm = compiled(rate=0.1)
    schedule = callbacks.LearningRateScheduler(lambda epoch, rate: rate if epoch < 2 else rate * 0.5)
    runs["scheduler"] = fit(lm, epochs=4, callbacks=[schedule])
    for name, args in (
        ("plateau", dict(factor=0.5, patience=1)),
        ("cooldown", dict(factor=0.3, patience=1, cooldown=2, min_lr=0.3)),
        ("maximum", dict(monitor="val_accuracy", factor=0.5, patience=2, mode="max")),
    ):
        lm = compiled(rate=1.5, weighted_metrics=["accuracy"])
        runs[name] = fit(lm, epochs=8, validation_split=0.4, callbacks=[callbacks.ReduceLROnPlateau(**args)])
        print(name, runs[name]["learning_rate"], runs[name]["val_loss"])
    return runs


def stopping():
    runs = {}
    for name, args in (
        ("patience", dict(patience=1)),
        ("restored", dict(patience=2, restore_best_weights=True)),
        ("baseline", dict(patience=2, baseline=0.01, restore_best_weights=True)),
        ("later", dict(patience=1, start_from_epoch=3, min_delta=0.05)),
    ):
        lm = compiled(rate=1.5)
        stop = callbacks.EarlyStopping(monitor="val_loss", **args)
        runs[name] = {"history": fit(lm, epochs=10, validation_split=0.4, callbacks=[stop]), "final": flat(lm)}
    return runs


def checkpoints():
    runs = {}
    for name, path, args in (
        ("every epoch", "{epoch:02d}-{val_loss:.2f}.weights.h5", {}),
        ("best", "{epoch}.weights.h5", dict(save_best_only=True)),
        ("threshold", "{epoch}.weights.h5", dict(save_best_only=True, initial_value_threshold=1.2)),
        ("batches", "{epoch}-{batch}.weights.h5", dict(save_freq=2)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            lm = compiled(rate=1.5)
            saver = callbacks.ModelCheckpoint(os.path.join(folder, path), save_weights_only=True, **args)
            fit(lm, epochs=6, validation_split=0.4, batch_size=2, callbacks=[saver])
            runs[name] = sorted(os.listdir(folder))
    return runs


def embedders():
    rng = np.random.default_rng(3)
    runs = {"texts": TEXTS, "runs": {}}
    labels = rng.normal(size=(len(TEXTS), 0))
    for name, loss, args in (
        ("mse", "mse", {}),
        ("cosine_similarity", "cosine_similarity", {}),
        ("validation", "mse", dict(validation_split=0.4)),
        ("classes", "mse", dict(class_weight=CLASS_WEIGHT)),
    ):
        keras.backend.clear_session()
        model = keras_hub.models.Gemma3TextEmbedder.from_preset(
            os.path.join(FOLDER, "..", "embedder", "mean"), dtype="float32"
        )
        width = model.output_shape[-1]
        if labels.shape[1] == 0:
            labels = rng.normal(size=(len(TEXTS), width)).round(3)
            runs["labels"] = labels.tolist()
        metrics = None if name == "cosine_similarity" else ["mae"]
        model.compile(optimizer=optimizers.SGD(0.2), loss=loss, metrics=metrics, run_eagerly=True)
        history = model.fit(np.array(TEXTS), labels, batch_size=2, epochs=2, shuffle=False, verbose=0, **args)
        runs["runs"][name] = {"history": numbers(history)}
        runs["runs"][name]["evaluate"] = np.ravel(model.evaluate(TEXTS, labels, batch_size=2, verbose=0)).tolist()
        tokens = {k: np.array(v, "int32") for k, v in model.preprocessor(TEXTS).items()}
        runs["runs"][name]["output"] = np.array(model(tokens), "float64").ravel().round(7).tolist()
    return runs


def backbones():
    model = backbone()
    labels = np.random.default_rng(5).normal(size=(*Y.shape, 8)).round(2)
    model.compile(optimizer=optimizers.SGD(0.1), loss="mse", metrics=["mae"], run_eagerly=True)
    history = model.fit(X, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return {"labels": labels.tolist(), "history": numbers(history), "final": flat(model)}


PARTS = {
    "metrics": metrics,
    "losses": losses,
    "classes": classes,
    "rates": rates,
    "stopping": stopping,
    "checkpoints": checkpoints,
    "embedders": embedders,
    "backbone": backbones,
}


def main():
    path = os.path.join(FOLDER, "fit.json")
    result = {}
    if os.path.exists(path):
        with open(path) as f:
            result = json.load(f)
    for name in sys.argv[1:] or PARTS:
        result[name] = PARTS[name]()
        with open(path, "w") as f:
            json.dump(result, f)
        print(name, os.path.getsize(path), flush=True)


if __name__ == "__main__":
    main()
