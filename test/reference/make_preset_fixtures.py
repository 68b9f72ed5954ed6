"""Writes test/fixtures/presets.json: what KerasHub makes of the preset in the package, loaded in many ways.

Run from the repository root with a Python that has keras_hub:

    KERAS_BACKEND=tensorflow python test/reference/make_preset_fixtures.py

  classes      {base class: the class of what its `from_preset` returns}
  attributes   {class: {attribute: value}} of the loaded objects, from the names in test/fixtures/keras_names.json
  backbones    [{overrides, hidden}]: hidden states of the last token, float32, from presets with overrides
  configs      [{class, overrides, config}]: configurations of preprocessors, tokenizers and converters with overrides
  tokenizer    {texts, batches, scalars, detokenized}: results for strings, arrays and tensors
"""

import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import numpy as np
import tensorflow as tf

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
FIXTURES = os.path.join(ROOT, "test", "fixtures")
PRESET = os.path.join(ROOT, "presets", "gemma3_tiny")
TOKENS = [2, 5, 300, 41, 900, 17, 8, 1200, 77, 78, 79, 80]

BACKBONE_OVERRIDES = [
    {},
    {"sliding_window_size": 3},
    {"use_sliding_window_attention": False},
    {"global_rope_scaling_factor": 4.0},
    {"local_rope_scaling_factor": 2.0},
    {"attention_logit_soft_cap": 2.0},
    {"use_bidirectional_attention": True},
    {"vision_encoder": None},
]
CONFIG_OVERRIDES = [
    ("CausalLMPreprocessor", {"sequence_length": 600, "add_start_token": False, "max_images_per_prompt": 1}),
    ("CausalLMPreprocessor", {"image_converter": None, "add_end_token": False, "name": "mine"}),
    ("TextEmbedderPreprocessor", {"sequence_length": 9, "truncate": "waterfall"}),
    ("Tokenizer", {"add_bos": True, "sequence_length": 5}),
    ("Tokenizer", {"has_vision_tokens": False, "add_eos": True, "name": "mine"}),
    ("ImageConverter", {"image_size": [5, 7], "interpolation": "nearest", "scale": 0.5}),
]


def hub_class(name):
    return getattr(keras_hub.models, name, None) or getattr(keras_hub.layers, name)


def plain(value):
    """A value that JSON can hold, or None for everything else."""
    if isinstance(value, (np.integer, np.floating)):
        value = value.item()
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list) and all(isinstance(one, (int, float, str)) for one in value):
        return value
    return value if isinstance(value, (bool, int, float, str)) else None


def attributes_of(instance, names):
    line = [cls.__name__ for cls in type(instance).__mro__ if cls.__name__ in names]
    found = {}
    for cls in line:
        for name in names[cls]["properties"]:
            value = plain(getattr(instance, name, None))
            # KerasHub makes lists of sets.
            value = sorted(value) if name.startswith("special_token") else value
            if value is not None or getattr(instance, name, 0) is None:
                found[name] = value
    return found


def loaded(names):
    lm = keras_hub.models.CausalLM.from_preset(PRESET)
    embedder = keras_hub.models.TextEmbedder.from_preset(PRESET)
    backbone = lm.backbone
    block, last = backbone.transformer_layers[0], backbone.transformer_layers[5]
    encoder = backbone.vision_encoder
    image_encoder, pooling, output = encoder.layers[1:]
    instances = {
        "backbone": backbone,
        "block": block,
        "lastBlock": last,
        "attention": block.attention,
        "visionEncoder": encoder,
        "imageEncoder": image_encoder,
        "visionEmbedding": image_encoder.vision_embeddings,
        "visionLayer": image_encoder.resblocks[0],
        "visionAttention": image_encoder.resblocks[0].attn,
        "pooling": pooling,
        "visionOutput": output,
        "interleave": backbone.interleave_embeddings,
        "preprocessor": lm.preprocessor,
        "tokenizer": lm.preprocessor.tokenizer,
        "imageConverter": lm.preprocessor.image_converter,
        "embedder": embedder,
        "embedderPreprocessor": embedder.preprocessor,
    }
    return {key: attributes_of(instance, names) for key, instance in instances.items()}


def main():
    with open(os.path.join(FIXTURES, "keras_names.json"), encoding="utf-8") as f:
        names = json.load(f)["classes"]
    bases = ["Backbone", "CausalLM", "CausalLMPreprocessor", "ImageConverter", "TextEmbedder", "TextEmbedderPreprocessor"]
    classes = {name: type(hub_class(name).from_preset(PRESET)).__name__ for name in [*bases, "Tokenizer"]}

    ids = np.array([TOKENS], "int32")
    text = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    vision = {
        "images": np.zeros((1, 0, 64, 64, 3), "float32"),
        "vision_indices": np.zeros((1, 0), "int32"),
        "vision_mask": np.zeros_like(ids),
    }
    backbones = []
    for overrides in BACKBONE_OVERRIDES:
        backbone = keras_hub.models.Backbone.from_preset(PRESET, dtype="float32", **overrides)
        hidden = backbone(text if backbone.vision_encoder is None else {**text, **vision})
        backbones.append({"overrides": overrides, "hidden": np.array(hidden)[0, -1].astype("float64").round(7).tolist()})

    configs = []
    for name, overrides in CONFIG_OVERRIDES:
        instance = hub_class(name).from_preset(PRESET, **overrides)
        config = {key: plain(value) for key, value in instance.get_config().items()}
        skipped = ("dtype", "trainable", "tokenizer", "proto", "config_file", "image_converter")
        config = {key: value for key, value in config.items() if key not in skipped}
        configs.append({"class": name, "overrides": overrides, "config": config})

    texts = ["The capital of France is", "", "über 12 €", "<start_of_image> what?"]
    tokenizer = keras_hub.models.Tokenizer.from_preset(PRESET)
    dense = keras_hub.models.Tokenizer.from_preset(PRESET, sequence_length=4)
    batches = {"ragged": tokenizer(texts), "dense": dense(texts).tolist(), "tensor": tokenizer(tf.constant(texts))}
    rows = [[600, 700, 0, 0], [2, 1000, 1, 0]]
    result = {
        "classes": classes,
        "attributes": loaded(names),
        "tokens": TOKENS,
        "backbones": backbones,
        "configs": configs,
        "tokenizer": {
            "texts": texts,
            "batches": batches,
            "scalars": [tokenizer(tf.constant(one)).tolist() for one in texts],
            "rows": rows,
            "detokenized": tokenizer.detokenize(np.array(rows, "int32")),
            "detokenizedRow": tokenizer.detokenize(np.array(rows[0], "int32")),
            "detokenizedId": tokenizer.detokenize(600),
        },
    }
    with open(os.path.join(FIXTURES, "presets.json"), "w", encoding="utf-8") as f:
        json.dump(result, f)
        f.write("\n")
    print({key: len(value) for key, value in result.items()})


if __name__ == "__main__":
    main()
