"""Writes test/fixtures/training: small models, data, and the result of each training step in Python KerasHub.

    python test/reference/make_training_fixtures.py

Needs keras, keras-hub, tensorflow-cpu (see requirements.txt here). `cases.json` describes the cases; `values.bin` holds
all weights as little-endian float32. A list of weights is `[offset, number of values]`, in the order of Keras.
"""

import json
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import keras_hub
import numpy as np
from keras import optimizers

FOLDER = os.path.join(os.path.dirname(__file__), "..", "fixtures", "training")
RNG = np.random.default_rng(11)
VALUES = []

TEXT = dict(
    vocabulary_size=40,
    image_size=None,
    num_layers=2,
    num_query_heads=2,
    num_key_value_heads=1,
    hidden_dim=8,
    intermediate_dim=12,
    head_dim=4,
    vision_encoder=None,
    use_post_ffw_norm=True,
    use_post_attention_norm=True,
    attention_logit_soft_cap=3.0,
    final_logit_soft_cap=4.0,
    use_sliding_window_attention=True,
    sliding_window_size=5,
    dtype="float32",
)
ENCODER = dict(
    image_size=8, patch_size=2, num_heads=2, hidden_dim=8, num_layers=1, intermediate_dim=12, output_dim=8, pool_size=2
)
LENGTHS = [7, 12, 5, 9, 11, 6]
LENGTH = 14


def store(arrays):
    """Appends to the file of values; returns [offset, number of values]."""
    flat = np.concatenate([np.ascontiguousarray(a, dtype="<f4").ravel() for a in arrays])
    offset = sum(v.size for v in VALUES)
    VALUES.append(flat)
    return [offset, int(flat.size)]


def make_backbone(vision):
    keras.backend.clear_session()
    args = dict(TEXT)
    if vision:
        args |= dict(image_size=8, vision_encoder=keras_hub.models.Gemma3VisionEncoder(**ENCODER, dtype="float32"))
    return keras_hub.models.Gemma3Backbone(**args)


def random_weights(backbone):
    values = []
    for w in backbone.weights:
        if w.name == "gamma":
            values.append(1 + RNG.normal(size=w.shape) * 0.2)
        elif len(w.shape) == 1:
            values.append(RNG.normal(size=w.shape) * 0.3)
        else:
            values.append(RNG.normal(size=w.shape) / np.sqrt(w.shape[-1] if "embeddings" in w.name else w.shape[-2]))
    return [v.astype("float32") for v in values]


def make_data(vision):
    rows = len(LENGTHS)
    token_ids = np.zeros((rows, LENGTH), "int32")
    mask = np.zeros((rows, LENGTH), "int32")
    y = np.zeros((rows, LENGTH), "int32")
    weights = np.zeros((rows, LENGTH), "float32")
    for i, n in enumerate(LENGTHS):
        ids = RNG.integers(1, 40, n + 1)
        token_ids[i, :n], y[i, :n], mask[i, :n] = ids[:-1], ids[1:], 1
        weights[i, n // 2 : n] = RNG.choice([0.5, 1.0, 2.0], n - n // 2)
    x = {"token_ids": token_ids, "padding_mask": mask}
    if vision:
        tokens = 4
        x["images"] = RNG.uniform(-1, 1, (rows, 1, 8, 8, 3)).astype("float32").round(2)
        x["vision_indices"] = np.tile(np.arange(1, 1 + tokens), (rows, 1)).astype("int32")
        x["vision_mask"] = np.zeros((rows, LENGTH), "int32")
        x["vision_mask"][:, 1 : 1 + tokens] = 1
    return x, y, weights


def cosine():
    return optimizers.schedules.CosineDecay(1e-3, 3, alpha=0.1, warmup_target=2e-2, warmup_steps=2)


RUNS = {
    "sgd": dict(optimizer=lambda: optimizers.SGD(0.5)),
    "momentum": dict(optimizer=lambda: optimizers.SGD(0.2, momentum=0.9, nesterov=True, clipvalue=0.02)),
    "adam": dict(optimizer=lambda: optimizers.Adam(1e-2)),
    "amsgrad": dict(optimizer=lambda: optimizers.Adam(1e-2, amsgrad=True, beta_1=0.8, epsilon=1e-5, clipnorm=0.01)),
    "adamw": dict(optimizer=lambda: optimizers.AdamW(1e-2, weight_decay=0.1, global_clipnorm=0.05)),
    "accumulation": dict(optimizer=lambda: optimizers.Adam(cosine(), gradient_accumulation_steps=2, weight_decay=0.05)),
    "cosine": dict(optimizer=lambda: optimizers.Adam(cosine())),
    "polynomial": dict(
        optimizer=lambda: optimizers.SGD(optimizers.schedules.PolynomialDecay(0.5, 4, 0.1, power=2.0), momentum=0.5)
    ),
    "mean_with_sample_weight": dict(optimizer=lambda: optimizers.SGD(0.1), reduction="mean_with_sample_weight"),
    "no_weights": dict(optimizer=lambda: optimizers.SGD(0.1), weighted=False),
    "lora": dict(optimizer=lambda: optimizers.Adam(1e-2), lora=2),
    "lora_sgd": dict(optimizer=lambda: optimizers.SGD(1.0), lora=3),
    "vision": dict(optimizer=lambda: optimizers.SGD(0.2), vision=True),
    "vision_adam": dict(optimizer=lambda: optimizers.Adam(5e-3), vision=True),
    "vision_lora": dict(optimizer=lambda: optimizers.Adam(1e-2), vision=True, lora=2),
}


def run(name, initial, data, optimizer, reduction="sum_over_batch_size", weighted=True, lora=None, vision=False):
    backbone = make_backbone(vision)
    backbone.set_weights(initial)
    case = {"name": name, "vision": vision, "lora": lora}
    if lora:
        backbone.enable_lora(lora)
        for w in backbone.trainable_weights:
            w.assign(RNG.normal(size=w.shape) * 0.3)
        case["start"] = store([w.numpy() for w in backbone.trainable_weights])
        case["trainable"] = [list(w.shape) for w in backbone.trainable_weights]
    lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=backbone)
    lm.compile(
        optimizer=optimizer(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
        run_eagerly=True,
    )
    x, y, weights = data
    weights = weights if weighted else None
    part = lambda a, s: None if a is None else {k: v[s] for k, v in a.items()} if isinstance(a, dict) else a[s]
    steps = []
    for step in range(6):
        s = slice(2 * (step % 3), 2 * (step % 3) + 2)
        lm.reset_metrics()
        logs = lm.train_on_batch(part(x, s), part(y, s), part(weights, s), return_dict=True)
        steps.append([float(logs["loss"]), float(logs["sparse_categorical_accuracy"])])
    case["steps"] = steps
    case["final"] = store([w.numpy() for w in backbone.trainable_weights])
    lm.reset_metrics()
    held = lm.evaluate(x, y, sample_weight=weights, batch_size=3, return_dict=True, verbose=0)
    case["evaluate"] = [float(held["loss"]), float(held["sparse_categorical_accuracy"])]
    print(name, len(backbone.trainable_weights), [round(s[0], 5) for s in steps], case["evaluate"])
    return case


def main():
    cases = {"config": TEXT, "encoder": ENCODER, "models": {}, "runs": []}
    models = {}
    for vision in (False, True):
        initial = random_weights(make_backbone(vision))
        x, y, weights = data = make_data(vision)
        models[vision] = (initial, data)
        cases["models"]["vision" if vision else "text"] = {
            "weights": store(initial),
            "shapes": [list(w.shape) for w in initial],
            "x": {name: value.tolist() for name, value in x.items()},
            "y": y.tolist(),
            "sampleWeight": weights.tolist(),
        }
    for name, options in RUNS.items():
        cases["runs"].append(run(name, *models[options.get("vision", False)], **options))
    # The history of `fit` with validation, which weights the batches of an epoch by their rows.
    backbone = make_backbone(False)
    initial, (x, y, weights) = models[False]
    backbone.set_weights(initial)
    lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=backbone)
    lm.compile(optimizer=optimizers.SGD(0.5), weighted_metrics="auto", run_eagerly=True)
    history = lm.fit(
        x, y, sample_weight=weights, batch_size=4, epochs=3, shuffle=False, verbose=0, validation_split=0.2
    ).history
    cases["history"] = {name: [float(v) for v in values] for name, values in history.items()}
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "cases.json"), "w") as f:
        json.dump(cases, f)
    np.concatenate(VALUES).tofile(os.path.join(FOLDER, "values.bin"))
    print({name: os.path.getsize(os.path.join(FOLDER, name)) for name in os.listdir(FOLDER)})


if __name__ == "__main__":
    main()
