"""Writes test/fixtures/einsum.json: what keras.layers.EinsumDense computes for equations of all three forms.

    KERAS_BACKEND=jax python test/reference/make_einsum_fixtures.py
"""

import json
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

# (equation, input shape, output_shape, bias_axes, activation)
CASES = [
    ("ab,bc->ac", (3, 5), 4, None, None),
    ("ab,bc->ac", (1, 1), 1, "c", None),
    ("ab,bc->ac", (3, 5), (4,), "c", "relu"),
    ("abc,cd->abd", (2, 3, 5), (None, 4), "d", None),
    ("abc,cd->abd", (2, 3, 5), (3, 4), "bd", "tanh"),
    ("abc,cd->abd", (2, 3, 5), (3, 4), "b", "sigmoid"),
    ("abc,dc->abd", (2, 3, 5), (None, 4), None, None),
    ("btd,ndh->btnh", (2, 3, 6), (None, 2, 4), None, None),
    ("btd,ndh->btnh", (2, 3, 6), (None, 2, 4), "nh", None),
    ("btd,ndh->btnh", (2, 3, 6), (None, 2, 4), "n", None),
    ("btnh,nhd->btd", (2, 3, 2, 4), (None, 6), None, None),
    ("abcd,cde->abe", (2, 3, 4, 5), (None, 6), "e", "softplus"),
    ("abc,bcd->abd", (2, 3, 4), (3, 5), "bd", None),
    ("abc,bd->acd", (2, 3, 4), (4, 5), None, None),
    ("abc,bd->adc", (2, 3, 4), (5, 4), "d", None),
    ("abc,cbd->ad", (2, 3, 4), (5,), None, None),
    ("abcd,cdbe->ace", (2, 3, 4, 5), (4, 6), None, None),
    ("abc,c->ab", (2, 3, 4), (3,), None, None),
    ("abc,c->abc", (2, 3, 4), (3, 4), "c", None),
    ("abc,d->abcd", (2, 3, 4), (3, 4, 5), None, None),
    ("abc,bd->ad", (2, 3, 4), (5,), "d", None),
    ("ab,bcd->adc", (3, 5), (2, 4), "dc", None),
    ("aBc,cD->aBD", (2, 3, 5), (None, 4), "D", None),
    ("...x,xy->...y", (3, 5), 4, "y", None),
    ("...x,xy->...y", (2, 3, 5), 4, "y", "elu"),
    ("...x,xy->...y", (2, 3, 2, 5), (4,), None, None),
    ("...xy,xyz->...z", (2, 3, 4, 5), (6,), "z", None),
    ("...x,yxz->...yz", (2, 3, 5), (4, 2), "z", None),
    ("ab...,bc->ac...", (2, 3, 4), 5, None, None),
    ("ab...,bc->ac...", (2, 3, 4, 2), 5, "c", None),
    ("abc...,cd->abd...", (2, 3, 4, 2), (3, 5), "d", None),
]


def flat(x):
    return [float(f"{v:.7g}") for v in np.asarray(x, "float32").reshape(-1)]


def normal(rng, shape):
    """Random numbers of few digits, so that the file is small."""
    return np.round(rng.normal(size=shape), 2).astype("float32")


def main():
    rng = np.random.default_rng(0)
    cases = []
    for equation, shape, output_shape, bias_axes, activation in CASES:
        layer = keras.layers.EinsumDense(equation, output_shape, bias_axes=bias_axes, activation=activation)
        layer.build(shape)
        weights = [normal(rng, w.shape) for w in layer.weights]
        layer.set_weights(weights)
        x = normal(rng, shape)
        y = np.asarray(layer(x))
        cases.append(
            {
                "equation": equation,
                "outputShape": output_shape,
                "biasAxes": bias_axes,
                "activation": activation,
                "x": {"shape": shape, "values": flat(x)},
                "kernel": {"shape": weights[0].shape, "values": flat(weights[0])},
                "bias": {"shape": weights[1].shape, "values": flat(weights[1])} if bias_axes else None,
                "y": {"shape": y.shape, "values": flat(y)},
            }
        )
    path = pathlib.Path(__file__).parents[1] / "fixtures" / "einsum.json"
    path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
    print(f"{len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
