"""Writes test/fixtures/weights: `.weights.h5` files that KerasHub saves, and the outputs of their models.

    python test/reference/make_weights_fixtures.py

Needs keras, keras-hub, tensorflow-cpu (see requirements.txt here). `cases.json` has the configurations, one input for
each, and per file the output of the model, flattened.
"""

import json
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import keras_hub
import numpy as np

FOLDER = os.path.join(os.path.dirname(__file__), "..", "fixtures", "weights")
RNG = np.random.default_rng(15)
TEXT = dict(
    vocabulary_size=24,
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
    use_sliding_window_attention=True,
    sliding_window_size=4,
    dropout=0.1,
)
ENCODER = dict(
    image_size=8, patch_size=2, num_heads=2, hidden_dim=8, num_layers=1, intermediate_dim=12, output_dim=8, pool_size=2
)


def make_backbone(vision=False, dtype="float32"):
    keras.backend.clear_session()
    args = dict(TEXT)
    if vision:
        args |= dict(image_size=8, vision_encoder=keras_hub.models.Gemma3VisionEncoder(**ENCODER, dtype="float32"))
    backbone = keras_hub.models.Gemma3Backbone(**args, dtype=dtype)
    for w in backbone.weights:
        w.assign(RNG.normal(size=w.shape) * 0.4)
    return backbone


def inputs_of(vision):
    length = 7
    x = {"token_ids": RNG.integers(1, 24, (1, length)), "padding_mask": np.array([[1] * 6 + [0]])}
    if vision:
        x["images"] = RNG.uniform(-1, 1, (1, 1, 8, 8, 3)).round(2)
        x["vision_indices"] = np.arange(1, 5)[None]
        x["vision_mask"] = np.array([[0, 1, 1, 1, 1, 0, 0]])
    return x


def arrays(x):
    return {k: np.array(v, "float32" if k == "images" else "int32") for k, v in x.items()}


def main():
    os.makedirs(FOLDER, exist_ok=True)
    inputs = {"text": inputs_of(False), "vision": inputs_of(True)}
    files = {}

    def save(name, model, kind, exact=None):
        model.save_weights(os.path.join(FOLDER, f"{name}.weights.h5"))
        output = np.array((exact or model)(arrays(inputs[kind])), "float32").ravel()
        files[name] = {"inputs": kind, "output": output.tolist()}

    save("backbone", make_backbone(), "text")
    save("vision_backbone", make_backbone(vision=True), "vision")
    lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=make_backbone())
    # A step, so that the file has the state of an optimizer.
    x = arrays(inputs["text"])
    lm.train_on_batch(x, x["token_ids"])
    save("causal_lm", lm, "text")
    lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=make_backbone())
    lm.backbone.enable_lora(2)
    for w in lm.backbone.trainable_weights:
        w.assign(RNG.normal(size=w.shape) * 0.4)
    save("lora_causal_lm", lm, "text")
    embedder = keras_hub.models.Gemma3TextEmbedder(make_backbone(), preprocessor=None, pooling_mode="mean")
    save("embedder", embedder, "text")
    # Computed in float32 from the rounded weights, as this package does.
    backbone = make_backbone(dtype="bfloat16")
    exact = make_backbone()
    exact.set_weights([np.array(w.value, "float32") for w in backbone.weights])
    save("bfloat16_backbone", backbone, "text", exact)
    cases = {
        "config": TEXT,
        "encoder": ENCODER,
        "inputs": {kind: {name: value.tolist() for name, value in x.items()} for kind, x in inputs.items()},
        "files": files,
    }
    with open(os.path.join(FOLDER, "cases.json"), "w") as f:
        json.dump(cases, f)
    print({name: os.path.getsize(os.path.join(FOLDER, name)) for name in os.listdir(FOLDER)})


if __name__ == "__main__":
    main()
