"""Writes test/fixtures/backbone: tiny random presets and what Python KerasHub computes with them.

    python test/reference/make_backbone_fixtures.py

Needs keras, keras-hub, tensorflow-cpu (see requirements.txt here). Each case is a preset folder as
`save_to_preset` writes it, and expected.json: inputs, hidden states and logits in float32, for embedding
models the embeddings, and for some cases the token ids of greedy generation.

Where KerasHub's code contradicts its documentation, the model is corrected before it runs: blocks get the
`query_head_dim_normalize` and the `layer_norm_epsilon` of the backbone.
"""

import json
import os
import shutil
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import keras_hub
import numpy as np
import tensorflow as tf

OUT = os.path.join(os.path.dirname(__file__), "..", "fixtures", "backbone")

BASE = dict(
    vocabulary_size=64,
    image_size=None,
    num_layers=2,
    num_query_heads=2,
    num_key_value_heads=1,
    hidden_dim=8,
    intermediate_dim=16,
    head_dim=4,
    vision_encoder=None,
    dtype="float32",
)
GEMMA = dict(use_post_ffw_norm=True, use_post_attention_norm=True)
EMBEDDING = dict(
    use_bidirectional_attention=True, is_embedding_model=True, pooling_intermediate_dim=20, embedding_dim=6
)
WINDOW = dict(num_layers=7, use_sliding_window_attention=True, sliding_window_size=4)

# name: (arguments, batch, length, {row: (place of the padding, count)}, extra)
CASES = {
    "defaults": (dict(), 2, 9, {}, {}),
    "post_norms": (dict(**GEMMA), 2, 9, {1: ("right", 3)}, {"generate": [5, 5]}),
    "no_query_key_norm": (dict(use_query_key_norm=False), 2, 7, {}, {}),
    "soft_caps": (dict(attention_logit_soft_cap=0.5, final_logit_soft_cap=0.7), 2, 9, {0: ("right", 2)}, {}),
    "window": (dict(**GEMMA, **WINDOW), 2, 13, {1: ("right", 4)}, {"generate": [3, 7]}),
    "rope_factors": (
        dict(**GEMMA, **WINDOW, local_rope_scaling_factor=2.0, global_rope_scaling_factor=8.0), 1, 12, {},
        {"generate": [9, 4, 2]},
    ),
    "query_scale_by_hidden": (dict(query_head_dim_normalize=False, hidden_dim=24), 2, 8, {}, {}),
    "epsilon": (dict(**GEMMA, layer_norm_epsilon=1e-2), 2, 8, {}, {}),
    "length_one": (dict(**GEMMA), 3, 1, {}, {}),
    "padding": (dict(**GEMMA, **WINDOW), 4, 10, {0: ("left", 3), 1: ("right", 5), 2: ("all", 10)}, {}),
    "many_heads": (dict(num_query_heads=4, num_key_value_heads=4), 2, 9, {}, {}),
    "grouped_heads": (dict(num_query_heads=6, num_key_value_heads=2, head_dim=6, hidden_dim=20), 2, 9, {}, {}),
    "dropout": (dict(**GEMMA, dropout=0.1), 2, 8, {}, {}),
    "bidirectional": (dict(**GEMMA, **WINDOW, use_bidirectional_attention=True), 2, 11, {1: ("right", 4)}, {}),
    "bfloat16": (dict(**GEMMA, **WINDOW, dtype="bfloat16"), 2, 9, {}, {"generate": [4, 6]}),
    "float16": (dict(**GEMMA, dtype="float16"), 2, 9, {}, {}),
    "mixed_bfloat16": (dict(**GEMMA, dtype="mixed_bfloat16"), 2, 6, {}, {}),
    "sharded": (dict(**GEMMA, num_layers=3, dtype="bfloat16"), 2, 9, {}, {"shard": 3e-6}),
    "sharded_float32": (dict(**GEMMA, num_layers=3), 2, 9, {}, {"shard": 5e-6}),
    "everything": (
        dict(
            **GEMMA, **WINDOW, num_query_heads=4, num_key_value_heads=2, hidden_dim=12, intermediate_dim=20,
            head_dim=6, attention_logit_soft_cap=2.0, final_logit_soft_cap=3.0, local_rope_scaling_factor=1.5,
            global_rope_scaling_factor=4.0, query_head_dim_normalize=False, layer_norm_epsilon=1e-3,
        ),
        3, 14, {0: ("right", 9), 2: ("left", 2)}, {"generate": [2, 6, 11]},
    ),
    "embedding": (
        dict(**GEMMA, **WINDOW, **EMBEDDING), 5, 13,
        {0: ("left", 3), 1: ("right", 5), 2: ("middle", 4), 3: ("all", 13)}, {},
    ),
    "embedding_odd_window": (
        dict(**{**GEMMA, **WINDOW, **EMBEDDING, "sliding_window_size": 5}), 3, 23, {1: ("right", 9), 2: ("middle", 7)},
        {},
    ),
    "embedding_window_of_one": (dict(**{**WINDOW, **EMBEDDING, "sliding_window_size": 1}), 2, 5, {1: ("right", 2)}, {}),
    "embedding_causal": (
        dict(**{**GEMMA, **WINDOW, **EMBEDDING, "use_bidirectional_attention": False}), 3, 9,
        {0: ("left", 2), 1: ("right", 3)}, {},
    ),
    "embedding_bfloat16": (dict(**GEMMA, **WINDOW, **EMBEDDING, dtype="bfloat16"), 2, 9, {1: ("right", 4)}, {}),
    "embedding_everything": (
        dict(
            **{**GEMMA, **WINDOW, **EMBEDDING, "sliding_window_size": 6}, num_query_heads=4, num_key_value_heads=2,
            hidden_dim=12, intermediate_dim=20, head_dim=6, attention_logit_soft_cap=2.0, final_logit_soft_cap=3.0,
            local_rope_scaling_factor=1.5, global_rope_scaling_factor=4.0, query_head_dim_normalize=False,
            layer_norm_epsilon=1e-3,
        ),
        3, 17, {0: ("right", 9), 2: ("left", 2)}, {},
    ),
    # Prompts, and new text, of ten windows.
    "far_beyond": (
        dict(**GEMMA, **{**WINDOW, "sliding_window_size": 8}), 2, 90, {1: ("right", 30)},
        {"generate": [100, 3, 60], "total": 180},
    ),
}


def follow_documentation(backbone):
    for block in backbone.transformer_layers:
        block.attention.query_head_dim_normalize = backbone.query_head_dim_normalize
        for layer in block._flatten_layers():
            if layer.__class__.__name__ == "RMSNormalization":
                layer.epsilon = backbone.layer_norm_epsilon


def numbers(x):
    return [float(f"{v:.8g}") for v in np.asarray(x, "float32").ravel()]


def summary(backbone):
    """The rows of Keras' `summary()`: name, class, number of parameters."""
    rows = []
    for op in backbone.operations:
        rows.append([op.name, op.__class__.__name__, op.count_params() if hasattr(op, "count_params") else 0])
    return rows


def main():
    only = sys.argv[1:]
    for seed, (name, (args, batch, length, padding, extra)) in enumerate(CASES.items()):
        if only and name not in only:
            continue
        rng = np.random.default_rng(seed)
        keras.backend.clear_session()
        backbone = keras_hub.models.Gemma3Backbone(**{**BASE, **args})
        for w in backbone.weights:
            scale = 1.0 if "embeddings" in w.path else 0.3 if "scale" in w.path else 1.0 / np.sqrt(w.shape[-2])
            w.assign(rng.normal(size=w.shape) * scale)
        folder = os.path.join(OUT, name)
        shutil.rmtree(folder, ignore_errors=True)
        backbone.save_to_preset(folder, **({"max_shard_size": extra["shard"]} if "shard" in extra else {}))
        backbone = keras_hub.models.Gemma3Backbone.from_preset(os.path.abspath(folder), dtype="float32")
        follow_documentation(backbone)

        token_ids = rng.integers(0, backbone.vocabulary_size, (batch, length))
        mask = np.ones((batch, length), "int32")
        for row, (side, count) in padding.items():
            start = {"left": 0, "all": 0, "middle": 2, "right": length - count}[side]
            mask[row, start : start + count] = 0
        outputs = backbone({"token_ids": token_ids, "padding_mask": mask})
        hidden = outputs["sequence_output"] if backbone.is_embedding_model else outputs
        logits = backbone.token_embedding(hidden, reverse=True)
        expected = {
            "batch": batch,
            "length": length,
            "token_ids": token_ids.ravel().tolist(),
            "padding_mask": mask.ravel().tolist(),
            "hidden": numbers(hidden),
            "logits": numbers(logits),
            "params": backbone.count_params(),
            "summary": summary(backbone),
        }
        if backbone.is_embedding_model:
            expected["pooled"] = numbers(outputs["pooled_output"])
        if "generate" in extra:
            # Prompts of different lengths in one batch, continued over several windows.
            lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=backbone)
            lm.compile(sampler="greedy")
            total, lengths = extra.get("total", 24), extra["generate"]
            ids = np.zeros((len(lengths), total), "int32")
            keep = np.zeros((len(lengths), total), bool)
            for row, n in enumerate(lengths):
                ids[row, :n] = rng.integers(1, backbone.vocabulary_size, n)
                keep[row, :n] = True
            generated = []
            for stop in (None, [int(ids.max()), 1, 2]):
                # `generate` itself fails without a preprocessor: it concatenates the images, which are None.
                inputs = {"token_ids": tf.constant(ids), "padding_mask": tf.constant(keep)}
                out = lm.generate_step(inputs, stop_token_ids=stop)
                generated.append({
                    "stop_token_ids": stop,
                    "token_ids": np.asarray(out["token_ids"]).tolist(),
                    "padding_mask": np.asarray(out["padding_mask"]).astype(int).tolist(),
                })
            expected["generate"] = {
                "token_ids": ids.tolist(), "padding_mask": keep.astype(int).tolist(), "runs": generated
            }
        with open(os.path.join(folder, "expected.json"), "w") as f:
            json.dump(expected, f)
        files = sorted(os.listdir(folder))
        print(name, sum(os.path.getsize(os.path.join(folder, f)) for f in files), files)


if __name__ == "__main__":
    main()
