"""A decoder block of Gemma 3 270M for one token, on TensorFlow: single operations, a graph, and XLA.

    python bench/cuda_block.py [--layers 18] [--slots 512] [--rounds 5]

All three compute the same numbers from the same variables, in turns. Prints milliseconds for all layers of a token.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

arguments = argparse.ArgumentParser()
arguments.add_argument("--layers", type=int, default=18)
arguments.add_argument("--slots", type=int, default=512)
arguments.add_argument("--rounds", type=int, default=5)
arguments.add_argument("--runs", type=int, default=10)
args = arguments.parse_args()

D, N, H, F, C = 640, 4, 256, 2048, args.slots
random = np.random.default_rng(0)


def normal(*shape):
    return tf.constant(random.normal(0, 0.02, shape).astype("float32"))


LAYERS = [
    {
        "qk": normal((N + 1) * H, D),
        "v": normal(H, D),
        "out": normal(D, N * H),
        "gate": normal(F, D),
        "up": normal(F, D),
        "down": normal(D, F),
        "norms": [normal(D) + 1 for _ in range(4)],
        "gains": normal(N + 1, H) + 1,
    }
    for _ in range(args.layers)
]
ROTATION = normal(H, H)
HIDDEN = tf.zeros([1, C])


def norm(x, gain):
    return x * tf.math.rsqrt(tf.matmul(x, x, transpose_b=True) / D + 1e-6) * gain


def block(x, keys, values, layer):
    normed = norm(x, layer["norms"][0])
    heads = tf.reshape(tf.matmul(normed, layer["qk"], transpose_b=True), [N + 1, H])
    heads = heads * tf.math.rsqrt(tf.reduce_mean(tf.square(heads), 1, keepdims=True) + 1e-6) * layer["gains"]
    queries, key = tf.split(tf.matmul(heads, ROTATION), [N, 1])
    keys = tf.tensor_scatter_nd_update(keys, [[7]], key)
    values = tf.tensor_scatter_nd_update(values, [[7]], tf.matmul(normed, layer["v"], transpose_b=True))
    shares = tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True) + HIDDEN)
    seen = tf.reshape(tf.matmul(shares, values), [1, N * H])
    x = x + norm(tf.matmul(seen, layer["out"], transpose_b=True), layer["norms"][1])
    normed = norm(x, layer["norms"][2])
    gate = tf.nn.gelu(tf.matmul(normed, layer["gate"], transpose_b=True), approximate=True)
    inside = gate * tf.matmul(normed, layer["up"], transpose_b=True)
    return x + norm(tf.matmul(inside, layer["down"], transpose_b=True), layer["norms"][3])


x = normal(1, D)
caches = [(normal(C, H), normal(C, H)) for _ in LAYERS]


def token(x):
    for layer, (keys, values) in zip(LAYERS, caches):
        x = block(x, keys, values, layer)
    return x


def by_blocks(run):
    def all_blocks(x):
        for layer, (keys, values) in zip(LAYERS, caches):
            x = run(x, keys, values, layer)
        return x

    return all_blocks


WAYS = {
    "single operations": token,
    "a graph for each block": by_blocks(tf.function(block)),
    "XLA for each block": by_blocks(tf.function(block, jit_compile=True)),
    "XLA for all blocks": tf.function(token, jit_compile=True),
}
expected = token(x).numpy()
times = {name: [] for name in WAYS}
compiling = {}
for name, run in WAYS.items():
    start = time.perf_counter()
    np.testing.assert_allclose(run(x).numpy(), expected, atol=1e-3)
    compiling[name] = time.perf_counter() - start
for _ in range(args.rounds):
    for name, run in WAYS.items():
        start = time.perf_counter()
        for _ in range(args.runs):
            run(x).numpy()
        times[name].append((time.perf_counter() - start) * 1000 / args.runs)
print(f"TensorFlow {tf.__version__}, {args.layers} blocks, {C} slots, float32")
print("| | first call, s | ms per token | range |\n|---|---:|---:|---|")
for name, found in times.items():
    print(
        f"| {name} | {compiling[name]:.2f} | {statistics.median(found):.2f} | {min(found):.2f} to {max(found):.2f} |"
    )
