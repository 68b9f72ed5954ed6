"""Records what Python KerasHub computes with presets/gemma3_tiny if keys and values are rounded to bfloat16.

    python test/reference/make_cache_fixtures.py [--check]

Writes test/fixtures/bfloat16_cache.json, or with --check compares it. Needs the
packages of scripts/tiny_preset/requirements.txt. Everything else is float32. A
generation with a cache of bfloat16 attends over exactly these keys and values,
so the logits of a whole text are those of its generation, token by token.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "scripts", "tiny_preset"))

import check
import ml_dtypes
import numpy as np
from keras import ops
from keras_hub.src.models.gemma3.gemma3_attention import CachedGemma3Attention

PRESET = os.path.join(ROOT, "presets", "gemma3_tiny")
TARGET = os.path.join(ROOT, "test", "fixtures", "bfloat16_cache.json")
# Numbers of the vocabulary whose logits are recorded.
TOKENS = 48
# Longer than one and two windows of 32.
LENGTHS = [45, 90]
NEW_TOKENS = 16

compute = CachedGemma3Attention._compute_attention
rounding = True


def rounded(x):
    # In numpy: XLA may leave out a conversion that is followed by its inverse.
    return ops.convert_to_tensor(np.asarray(x).astype(ml_dtypes.bfloat16).astype("float32"))


def compute_attention(self, q, k, v, *args, **kwargs):
    if rounding:
        k, v = rounded(k), rounded(v)
    return compute(self, q, k, v, *args, **kwargs)


CachedGemma3Attention._compute_attention = compute_attention


def logits_of(model, ids):
    """Returns logits (tokens, vocabulary)."""
    backbone = model.backbone
    x = backbone.token_embedding(np.array([ids], "int32")) * np.float32(backbone.hidden_dim**0.5)
    padding = np.ones((1, len(ids)), "int32")
    for block in backbone.transformer_layers:
        x = block(x, padding_mask=padding)
    x = backbone.layer_norm(x)
    return np.asarray(backbone.token_embedding(x, reverse=True))[0]


def main():
    global rounding
    model = check.load(PRESET)
    rng = np.random.default_rng(7)
    cases = []
    for length in LENGTHS:
        prompt = [int(token) for token in rng.integers(10, 2000, length)]
        ids = list(prompt)
        for _ in range(NEW_TOKENS):
            ids.append(int(logits_of(model, ids)[-1].argmax()))
        logits = logits_of(model, ids)
        rounding = False
        change = np.abs(logits_of(model, ids) - logits).max()
        rounding = True
        at = [length - 1, length + NEW_TOKENS - 1]
        kept = [[round(float(value), 5) for value in logits[t, :TOKENS]] for t in at]
        print(f"{length} tokens: rounding changes a logit by up to {change:.4f}")
        cases.append({"prompt": prompt, "newTokens": ids[length:], "at": at, "logits": kept})
    text = json.dumps({"preset": "gemma3_tiny", "cases": cases}) + "\n"
    if "--check" in sys.argv[1:]:
        with open(TARGET, encoding="utf-8") as file:
            recorded = json.load(file)["cases"]
        for ours, theirs in zip(cases, recorded, strict=True):
            assert ours["prompt"] == theirs["prompt"] and ours["newTokens"] == theirs["newTokens"]
            np.testing.assert_allclose(ours["logits"], theirs["logits"], rtol=1e-4, atol=1e-3)
        return
    with open(TARGET, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
