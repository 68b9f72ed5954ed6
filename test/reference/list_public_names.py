"""Writes test/fixtures/keras_names.json: the public names of KerasHub's Gemma 3 classes.

    python test/reference/list_public_names.py
    python test/reference/list_public_names.py --check    compares, writes nothing, and exits with 1 on any difference

For every class of KerasHub's Gemma 3, and for their base classes in KerasHub, the file has what each of them adds to its
bases:

  bases       the base classes that KerasHub defines
  arguments   of the constructor
  methods     {name: [argument, ...]}
  properties  properties and attributes; of a class that others derive from, also what its instances get

Names that begin with an underscore are left out. `keras.Model` and `keras.Layer` come from the framework: of them the
file has the names below, which KerasHub's guides and Keras' pages use.
"""

import inspect
import json
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
from keras_hub.src.models.gemma3 import gemma3_attention, gemma3_layers, gemma3_vision_encoder

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
OUTPUT = os.path.join(ROOT, "test", "fixtures", "keras_names.json")
PRESET = os.path.join(ROOT, "presets", "gemma3_tiny")

LAYER_NAMES = """
    name path trainable dtype dtype_policy compute_dtype variable_dtype quantization_mode input_spec built
    input output weights trainable_weights non_trainable_weights variables trainable_variables
    non_trainable_variables build call compute_output_shape get_config from_config get_weights set_weights count_params
    quantize supports_masking
"""
MODEL_NAMES = """
    name trainable dtype dtype_policy compute_dtype variable_dtype quantization_mode input output inputs outputs
    input_shape output_shape layers get_layer metrics metrics_names optimizer stop_training
    weights trainable_weights non_trainable_weights variables trainable_variables non_trainable_variables
    get_weights set_weights count_params
    compile fit evaluate predict train_on_batch test_on_batch predict_on_batch summary
    save save_weights load_weights export to_json quantize get_config from_config
    add_loss losses reset_metrics compute_loss compute_metrics train_step test_step predict_step
    make_train_function make_test_function make_predict_function get_compile_config compile_from_config
    run_eagerly jit_compile
"""


def is_hub(cls):
    return cls.__module__.startswith("keras_hub")


def arguments_of(function):
    """Names of the arguments, without `self`, `cls` and those that only pass others on."""
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.name not in ("self", "cls") and p.kind not in kinds]


def kind_of(value):
    if isinstance(value, (classmethod, staticmethod)):
        return "method", value.__func__
    if inspect.isfunction(value):
        return "method", inspect.unwrap(value)
    return "property", None


def own_face(cls):
    """What a class itself defines."""
    face = {"arguments": [], "methods": {}, "properties": []}
    for name, value in vars(cls).items():
        kind, function = kind_of(value)
        if name == "__init__":
            face["arguments"] = arguments_of(value)
        elif not name.startswith("_"):
            if kind == "method":
                face["methods"][name] = arguments_of(function)
            else:
                face["properties"].append(name)
    return face


def tiny_instances():
    """One instance of every class that can be created."""
    attention = dict(head_dim=8, num_query_heads=2, num_key_value_heads=1)
    block = dict(hidden_dim=16, intermediate_dim=32, use_post_ffw_norm=True, use_post_attention_norm=True, **attention)
    encoder = keras_hub.models.Gemma3VisionEncoder(
        image_size=16, patch_size=4, num_heads=2, hidden_dim=8, num_layers=1, intermediate_dim=16, output_dim=16,
        pool_size=2, layer_norm_epsilon=1e-6,
    )
    decoder = dict(vocabulary_size=32, image_size=16, num_layers=1, **block)
    backbone = keras_hub.models.Gemma3Backbone(**decoder, vision_encoder=encoder)
    text = keras_hub.models.Gemma3Backbone(
        **decoder, is_embedding_model=True, pooling_intermediate_dim=8, embedding_dim=8
    )
    tokenizer = keras_hub.models.Gemma3Tokenizer.from_preset(PRESET)
    converter = keras_hub.layers.Gemma3ImageConverter(image_size=(16, 16))
    preprocessor = keras_hub.models.Gemma3CausalLMPreprocessor(tokenizer, image_converter=converter)
    embedder_preprocessor = keras_hub.models.Gemma3TextEmbedderPreprocessor(tokenizer)
    preprocessor.build(None)
    embedder_preprocessor.build(None)
    vision = gemma3_vision_encoder
    of_vision = dict(hidden_dim=8, num_heads=2)
    layers = [
        (gemma3_attention.CachedGemma3Attention(use_query_key_norm=True, **attention), (None, 4, 16)),
        (keras_hub.src.models.gemma3.gemma3_decoder_block.Gemma3DecoderBlock(**block), (None, 4, 16)),
        (gemma3_layers.RMSNormalization(), (None, 16)),
        (gemma3_layers.Gemma3InterleaveEmbeddings(4), None),
        (gemma3_layers.Gemma3MeanPooling(), None),
        (vision.Gemma3VisionEmbedding(16, 4, 8), (None, 16, 16, 3)),
        (vision.Gemma3VisionAttention(**of_vision), (None, 4, 8)),
        (vision.Gemma3VisionEncoderLayer(2, 16), (None, 4, 8)),
        (vision.Gemma3VisionEncoderBlock(4, 16, 8, 1, 2, 16), (None, 1, 16, 16, 3)),
        (vision.Gemma3VisionAveragePooling(16, 4, 2), (None, 16, 8)),
        (vision.Gemma3VisionOutput(16), (None, 4, 8)),
    ]
    for layer, shape in layers:
        if shape:
            layer.build(shape)
    return [
        backbone,
        text,
        keras_hub.models.Gemma3CausalLM(backbone=backbone, preprocessor=preprocessor),
        preprocessor,
        keras_hub.models.Gemma3TextEmbedder(text, preprocessor=embedder_preprocessor),
        embedder_preprocessor,
        tokenizer,
        converter,
        encoder,
        *[layer for layer, _ in layers],
    ]


def framework_attributes():
    """Names of attributes that every layer and every model of Keras has."""
    layer = keras.layers.Dense(1)
    layer.build((None, 1))
    inputs = keras.Input((1,))
    model = keras.Model(inputs, layer(inputs))
    model.compile()
    return {*dir(layer), *dir(model)} - {"activation", "units", "kernel", "bias"}


def framework_face(cls, names):
    face = {"bases": [], "arguments": [], "methods": {}, "properties": []}
    for name in names.split():
        value = getattr(cls, name, None)
        if callable(value):
            face["methods"][name] = arguments_of(value)
        else:
            face["properties"].append(name)
    return face


def one_line_per_list(result):
    """JSON with every list on one line, so that changes can be read."""
    text = json.dumps(result, indent=1)
    return re.sub(r"\[[^\[\]]*\]", lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text)


def compare(stored, live, path=""):
    """One line for each place where two listings differ, in lists for each name."""
    if isinstance(stored, dict) and isinstance(live, dict):
        return [
            line
            for key in sorted({*stored, *live})
            for line in compare(stored.get(key), live.get(key), f"{path}.{key}" if path else key)
        ]
    if isinstance(stored, list) and isinstance(live, list):
        gone, new = [n for n in stored if n not in live], [n for n in live if n not in stored]
        moved = [] if gone or new or stored == live else [f"{path}: {stored} in the file, {live} in KerasHub"]
        return [f"{path}: {n} is only in the file" for n in gone] + [f"{path}: {n} is only in KerasHub" for n in new] + moved
    return [] if stored == live else [f"{path}: {stored} in the file, {live} in KerasHub"]


def main():
    if unknown := [arg for arg in sys.argv[1:] if arg != "--check"]:
        sys.exit(f"Expected no argument, or --check. Received: {' '.join(unknown)}.")
    classes = {}
    inherited = framework_attributes()
    for instance in tiny_instances():
        line = [cls for cls in type(instance).__mro__ if is_hub(cls)]
        for cls in line:
            face = classes.setdefault(cls.__name__, {"bases": [base.__name__ for base in cls.__bases__ if is_hub(base)]})
            if "arguments" not in face:
                face.update(own_face(cls))
        known = {name for cls in line for name in dir(cls)}
        for name in vars(instance):
            if name.startswith("_") or name in known or name in inherited:
                continue
            # An attribute belongs to the class whose constructor or `build` sets it; ours is the one that is created.
            owner = next((c for c in reversed(line) if sets(c, name)), type(instance))
            properties = classes[owner.__name__]["properties"]
            if name not in properties:
                properties.append(name)
    classes["keras.Layer"] = framework_face(keras.Layer, LAYER_NAMES)
    classes["keras.Model"] = framework_face(keras.Model, MODEL_NAMES)
    for face in classes.values():
        face["methods"] = dict(sorted(face["methods"].items()))
        face["properties"].sort()
    result = {"keras_hub": keras_hub.__version__, "keras": keras.__version__, "classes": dict(sorted(classes.items()))}
    if "--check" in sys.argv[1:]:
        with open(OUTPUT, encoding="utf-8") as f:
            differences = compare(json.load(f), result)
        print("\n".join(differences), end="\n" if differences else "")
        print(f"{len(classes)} classes, {len(differences)} differences")
        sys.exit(bool(differences))
    with open(OUTPUT + ".new", "w", encoding="utf-8") as f:
        f.write(one_line_per_list(result) + "\n")
    os.replace(OUTPUT + ".new", OUTPUT)
    count = sum(
        len(face["arguments"]) + len(face["properties"]) + sum(1 + len(a) for a in face["methods"].values())
        for face in classes.values()
    )
    print(f"{len(classes)} classes, {count} names")


def sets(cls, name):
    """Whether the source of a class assigns this attribute."""
    return f"self.{name} = " in inspect.getsource(cls)


if __name__ == "__main__":
    main()
