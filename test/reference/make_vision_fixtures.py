"""Writes test/fixtures/vision: small random vision encoders of KerasHub, related layers, and their outputs.

Run from the repository root with a Python that has keras, keras_hub and h5py:

    python test/reference/make_vision_fixtures.py

`cases.json` describes the cases; `values.bin` holds all numbers as little-endian float32. A tensor is
`[offset, shape]`, with the offset in values. Weights are listed by their paths in a file of Keras.
"""

import json
import os
import tempfile

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py
import keras
import numpy as np
from keras_hub.models import Gemma3VisionEncoder
from keras_hub.src.models.gemma3.gemma3_layers import Gemma3InterleaveEmbeddings
from keras_hub.src.utils.keras_utils import gelu_approximate

FOLDER = os.path.join(os.path.dirname(__file__), "..", "fixtures", "vision")
RNG = np.random.default_rng(3)
VALUES = []
LENGTH = 0


def store(array):
    """Appends to the file of values; returns [offset, shape]."""
    global LENGTH
    array = np.ascontiguousarray(array, dtype="<f4")
    offset = LENGTH
    VALUES.append(array.tobytes())
    LENGTH += array.size
    return [offset, list(array.shape)]


def set_epsilon(layer, epsilon):
    """Sets the documented epsilon on all norms; KerasHub passes it only to the last one."""
    for child in layer._flatten_layers():
        if hasattr(child, "epsilon"):
            child.epsilon = epsilon


def weights_by_path(model):
    """Stores all weights, by the paths under which Keras saves them."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.weights.h5")
        model.save_weights(path)
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda name, item: found.update({name: store(item[()])}) if isinstance(item, h5py.Dataset) else None
            )
    return found


def encoder_case(name, image_counts, **config):
    """One encoder with random weights, run on batches of [samples, images]."""
    model = Gemma3VisionEncoder(**config)
    for variable in model.weights:
        spread = 0.3 if len(variable.shape) == 1 else 1 / np.sqrt(np.prod(variable.shape[:-1]))
        # Scales stay near one and biases near zero, but none is exactly that.
        centre = 1 if variable.name == "gamma" else 0
        variable.assign(centre + RNG.normal(0, spread, variable.shape))
    set_epsilon(model, config.get("layer_norm_epsilon", 1e-6))
    size = config["image_size"]
    runs = []
    for samples, images in image_counts:
        pixels = RNG.uniform(-1, 1, (samples, images, size, size, 3)).astype("float32")
        output = np.asarray(model(pixels))
        runs.append({"images": store(pixels), "output": store(output)})
    return {
        "name": name,
        "config": config,
        "numVisionTokensPerImage": int(model.num_vision_tokens_per_image),
        "weights": weights_by_path(model),
        "runs": runs,
    }


def interleave_case(name, tokens, length, indices):
    """indices: one row per sample, padded with 0."""
    indices = np.array(indices, dtype="int32")
    samples, placed = indices.shape
    width = 5
    images = RNG.normal(size=(samples * placed // tokens, tokens, width)).astype("float32")
    text = RNG.normal(size=(samples, length, width)).astype("float32")
    layer = Gemma3InterleaveEmbeddings(num_vision_tokens_per_image=tokens)
    output = layer(images, text, indices)
    return {
        "name": name,
        "tokens": tokens,
        "indices": indices.tolist(),
        "images": store(images),
        "text": store(text),
        "output": store(output),
    }


def dense_case(activation, name):
    """A dense layer on an input of three axes."""
    x = RNG.normal(0, 2, (2, 3, 4)).astype("float32")
    layer = keras.layers.Dense(5, activation=activation)
    layer.build(x.shape)
    for variable in layer.weights:
        variable.assign(RNG.normal(size=variable.shape))
    kernel, bias = layer.get_weights()
    return {"activation": name, "x": store(x), "kernel": store(kernel), "bias": store(bias), "output": store(layer(x))}


def layer_norm_case(epsilon):
    x = RNG.normal(1, 0.1, (2, 3, 7)).astype("float32")
    layer = keras.layers.LayerNormalization(epsilon=epsilon)
    layer.build(x.shape)
    for variable in layer.weights:
        variable.assign(RNG.normal(size=variable.shape))
    gamma, beta = layer.get_weights()
    return {"epsilon": epsilon, "x": store(x), "gamma": store(gamma), "beta": store(beta), "output": store(layer(x))}


ACTIVATIONS = "linear relu relu6 elu selu sigmoid silu softmax softplus softsign tanh gelu".split()

cases = {
    "encoders": [
        encoder_case(
            "two layers, two heads, pooled by 2",
            [(1, 1), (2, 1), (2, 2), (2, 0)],
            image_size=8,
            patch_size=2,
            num_heads=2,
            hidden_dim=8,
            num_layers=2,
            intermediate_dim=16,
            output_dim=12,
            pool_size=2,
        ),
        encoder_case(
            "one token per image, pixels left over after the last patch",
            [(1, 2)],
            image_size=13,
            patch_size=3,
            num_heads=1,
            hidden_dim=6,
            num_layers=1,
            intermediate_dim=10,
            output_dim=4,
            pool_size=4,
        ),
        encoder_case(
            "patches left over after the last pool, a different epsilon",
            [(1, 1), (3, 1)],
            image_size=10,
            patch_size=2,
            num_heads=3,
            hidden_dim=12,
            num_layers=3,
            intermediate_dim=16,
            output_dim=8,
            pool_size=2,
            layer_norm_epsilon=1e-2,
        ),
        encoder_case(
            "the default pool, patches of one pixel",
            [(1, 1)],
            image_size=14,
            patch_size=1,
            num_heads=2,
            hidden_dim=4,
            num_layers=1,
            intermediate_dim=6,
            output_dim=4,
        ),
    ],
    "interleave": [
        interleave_case("one image", 3, 7, [[2, 3, 4]]),
        interleave_case("two images per sample, the second sample has one", 2, 8, [[1, 2, 5, 6], [3, 4, 0, 0]]),
        interleave_case("a sample without images", 2, 6, [[0, 0], [4, 5]]),
        interleave_case("no images", 2, 6, np.zeros((2, 0))),
    ],
    "dense": [dense_case(name, name) for name in ACTIVATIONS] + [dense_case(gelu_approximate, "gelu_approximate")],
    "layerNormalization": [layer_norm_case(epsilon) for epsilon in (1e-3, 1e-6)],
}
with open(os.path.join(FOLDER, "cases.json"), "w", encoding="utf-8") as file:
    json.dump(cases, file, indent=1)
    file.write("\n")
with open(os.path.join(FOLDER, "values.bin"), "wb") as file:
    file.write(b"".join(VALUES))
print("wrote", LENGTH, "values")
