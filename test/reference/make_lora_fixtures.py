"""Writes test/fixtures/lora: what Keras and KerasHub compute and save with LoRA.

`layers.json`: outputs and gradients of single layers. `models.json`: which layers `enable_lora` finds in models with
and without vision, how many weights are trained, and the hidden states of test/fixtures/backbone/grouped_heads with
`grouped_heads.lora.h5`.

Usage: python make_lora_fixtures.py
"""

import json
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import numpy as np
import tensorflow as tf

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "../fixtures/lora")
BASE = os.path.join(HERE, "../fixtures/backbone/grouped_heads")

rng = np.random.default_rng(5)


def stored(x):
    x = np.asarray(x, dtype="float32")
    return {"shape": list(x.shape), "values": [float(v) for v in np.round(x.ravel(), 7)]}


def rounded(shape):
    return np.round(rng.normal(0, 1, shape), 3).astype("float32")


def layer_case(name, layer, x, rank, alpha, **call):
    layer.build(x.shape)
    for variable in layer.weights:
        variable.assign(rounded(variable.shape))
    layer.enable_lora(rank, lora_alpha=alpha)
    for variable in layer.trainable_variables:
        if "lora" in variable.name:
            variable.assign(rounded(variable.shape))
    integers = x.dtype == np.int32
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs) if not integers else None
        y = layer(inputs, **call)
        loss = tf.reduce_sum(y * y)
    sources = {v.name: v.value for v in layer.trainable_variables} | ({} if integers else {"x": inputs})
    gradients = tape.gradient(loss, sources)
    return {
        "name": name,
        "rank": rank,
        "alpha": layer.lora_alpha,
        "config": {k: v for k, v in layer.get_config().items() if k in ("lora_rank", "lora_alpha")},
        "x": {**stored(x), "dtype": "int32" if integers else "float32"},
        "weights": {v.name: stored(v) for v in layer.weights},
        "order": [v.name for v in layer.weights],
        "trainable": [v.name for v in layer.trainable_variables],
        "y": stored(y),
        "gradients": {k: stored(tf.convert_to_tensor(v)) for k, v in gradients.items() if v is not None},
    }


def layer_cases():
    L = keras.layers
    ids = np.array([[1, 3, 3], [0, 4, 1]], dtype="int32")
    for equation, shape, x in (
        ("btd,ndh->btnh", (None, 2, 3), (2, 3, 4)),
        ("btnh,nhd->btd", (None, 4), (2, 3, 2, 3)),
        ("btd,df->btf", (None, 6), (2, 3, 4)),
        ("abc,dc->abd", (None, 3), (2, 3, 4)),
        ("...x,xy->...y", 3, (2, 3, 4)),
    ):
        axes = "h" if equation == "btd,ndh->btnh" else None
        layer = L.EinsumDense(equation, output_shape=shape, bias_axes=axes)
        case = layer_case(f"EinsumDense {equation}", layer, rounded(x), 2, None if axes else 3)
        case["args"] = {"equation": equation, "outputShape": shape, "biasAxes": axes}
        yield case
    dense = layer_case("Dense", L.Dense(3, activation="tanh"), rounded((2, 3, 4)), 2, 5)
    yield {**dense, "args": {"units": 3, "activation": "tanh"}}
    yield {**layer_case("Embedding", L.Embedding(5, 4), ids, 2, 3), "args": {"inputDim": 5, "outputDim": 4}}
    for tied in (True, False):
        for reverse in (False, True):
            if reverse and not tied:
                continue
            layer = L.ReversibleEmbedding(5, 4, tie_weights=tied, logit_soft_cap=3.0)
            x = rounded((2, 3, 4)) if reverse else ids
            name = f"ReversibleEmbedding{'' if tied else ', untied'}{', reversed' if reverse else ''}"
            args = {"inputDim": 5, "outputDim": 4, "tieWeights": tied, "logitSoftCap": 3}
            yield {**layer_case(name, layer, x, 2, 3, reverse=reverse), "args": args, "reverse": reverse}


TEXT = {
    "vocabulary_size": 32,
    "image_size": 16,
    "num_layers": 6,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "head_dim": 4,
    "use_post_ffw_norm": True,
    "use_post_attention_norm": True,
    "dropout": 0.1,
}
VISION = {
    "image_size": 16,
    "patch_size": 4,
    "num_heads": 2,
    "hidden_dim": 8,
    "num_layers": 2,
    "intermediate_dim": 16,
    "output_dim": 8,
    "pool_size": 2,
}


def model_cases():
    for vision in (False, True):
        some_targets = (["query", "key", "ffw_linear"], ["out_proj", "mlp_dense_1", "value"], ["token_embedding"])
        for targets in (None, *some_targets):
            if targets and "out_proj" in targets and not vision:
                continue
            encoder = keras_hub.models.Gemma3VisionEncoder(**VISION) if vision else None
            backbone = keras_hub.models.Gemma3Backbone(**TEXT, vision_encoder=encoder)
            backbone.enable_lora(3, targets)
            yield {
                "vision": vision,
                "targets": targets,
                "defaults": backbone.default_lora_layer_names(),
                "layers": backbone._lora_enabled_layers,
                "trainable": [list(v.shape) for v in backbone.trainable_weights],
                "nonTrainable": len(backbone.non_trainable_weights),
            }


def main():
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "layers.json"), "w") as f:
        json.dump(list(layer_cases()), f)
    backbone = keras_hub.models.Gemma3Backbone.from_preset(BASE, dtype="float32")
    backbone.enable_lora(3)
    for variable in backbone.trainable_weights:
        variable.assign(rounded(variable.shape) * 0.3)
    backbone.save_lora_weights(os.path.join(OUT, "grouped_heads.lora.h5"))
    size = backbone.vocabulary_size
    inputs = {"token_ids": rng.integers(1, size, (2, 6)).tolist(), "padding_mask": [[1] * 6, [1, 1, 1, 1, 0, 0]]}
    hidden = backbone({k: np.array(v, dtype="int32") for k, v in inputs.items()})
    grouped_heads = {"inputs": inputs, "hidden": stored(hidden), "layers": backbone._lora_enabled_layers}
    with open(os.path.join(OUT, "models.json"), "w") as f:
        json.dump({"grouped_heads": grouped_heads, "models": list(model_cases())}, f)


if __name__ == "__main__":
    main()
