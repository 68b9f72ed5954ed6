"""Writes test/fixtures/training/lora_targets.json: training steps in Python KerasHub with LoRA on each kind of layer.

    python test/reference/make_lora_training_fixtures.py

Needs keras, keras-hub, tensorflow-cpu (see requirements.txt here). Models and data are those that
make_training_fixtures.py wrote. Value k of all trained weights, concatenated, starts as sin(k + 1) * 0.3.
"""

import json
import os

from make_training_fixtures import FOLDER, make_backbone

import keras
import keras_hub
import ml_dtypes
import numpy as np

TEXT_TARGETS = [
    "token_embedding",
    "query",
    "key",
    "value",
    "attention_output",
    "ffw_gating",
    "ffw_gating_2",
    "ffw_linear",
]
VISION_TARGETS = [
    "position_embedding",
    "query_proj",
    "key_proj",
    "value_proj",
    "out_proj",
    "mlp_dense_1",
    "mlp_dense_2",
    "vision_input_projection",
]
RANK = 3


def initial_weights(model, vision, bfloat16):
    offset, size = model["weights"]
    flat = np.fromfile(os.path.join(FOLDER, "values.bin"), "<f4")[offset : offset + size]
    values, at = [], 0
    for w in make_backbone(vision).weights:
        count = int(np.prod(w.shape))
        value = flat[at : at + count].reshape(w.shape)
        at += count
        # The matrices that are stored packed: all of the text model, none of the vision encoder.
        if bfloat16 and len(w.shape) > 1 and ("decoder_block" in w.path or "token_embedding" in w.path):
            value = value.astype(ml_dtypes.bfloat16).astype("float32")
        values.append(value)
    assert at == size
    return values


def run(cases, vision, targets, bfloat16=False):
    # With a larger rate, steps of all layers at once amplify rounding errors a thousandfold, in KerasHub too.
    rate = 0.5 if len(targets) == 1 else 0.1
    model = cases["models"]["vision" if vision else "text"]
    initial = initial_weights(model, vision, bfloat16)
    backbone = make_backbone(vision)
    backbone.set_weights(initial)
    backbone.enable_lora(RANK, target_layer_names=targets)
    trained = backbone.trainable_weights
    at = 0
    for w in trained:
        count = int(np.prod(w.shape))
        w.assign((0.3 * np.sin(np.arange(at, at + count) + 1.0)).reshape(w.shape))
        at += count
    lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=backbone)
    lm.compile(
        optimizer=keras.optimizers.SGD(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    x = {name: np.array(value, "float32" if name == "images" else "int32") for name, value in model["x"].items()}
    y, weights = np.array(model["y"], "int32"), np.array(model["sampleWeight"], "float32")
    losses = []
    for step in range(3):
        s = slice(2 * step, 2 * step + 2)
        lm.reset_metrics()
        logs = lm.train_on_batch({k: v[s] for k, v in x.items()}, y[s], weights[s], return_dict=True)
        losses.append(float(logs["loss"]))
    final = np.concatenate([w.numpy().ravel() for w in trained])
    print("vision" if vision else "text", targets, bfloat16, losses)
    return {
        "vision": vision,
        "targets": targets,
        "learningRate": rate,
        "dtype": "bfloat16" if bfloat16 else "float32",
        "trainable": [list(w.shape) for w in trained],
        "losses": losses,
        "final": [float(f"{v:.7g}") for v in final],
    }


def main():
    with open(os.path.join(FOLDER, "cases.json")) as f:
        cases = json.load(f)
    both = TEXT_TARGETS + VISION_TARGETS
    runs = [run(cases, False, [name]) for name in TEXT_TARGETS]
    runs += [run(cases, True, [name]) for name in both]
    runs += [run(cases, False, TEXT_TARGETS), run(cases, True, both)]
    runs += [run(cases, False, targets, bfloat16=True) for targets in (["token_embedding"], TEXT_TARGETS)]
    runs += [run(cases, True, targets, bfloat16=True) for targets in (["token_embedding"], both)]
    path = os.path.join(FOLDER, "lora_targets.json")
    with open(path, "w") as f:
        json.dump({"rank": RANK, "runs": runs}, f)
    print(os.path.getsize(path))


if __name__ == "__main__":
    main()
