"""Writes test/fixtures/keras_files: `.keras` archives, and what Keras quantizes.

    python test/reference/make_keras_file_fixtures.py

Needs keras, keras-hub, tensorflow-cpu (see requirements.txt here).

  <name>.zip             a preset that `quantize` and `save_to_preset` wrote, as a deflated archive
  <name>.keras.gz        a model that `model.save` wrote
  <name>.weights.h5.gz   weights that `save_weights` wrote
  expected.json          {inputs, texts, cases: {name: {output, logits, values}}}: `values` has each weight, dequantized
                         by Keras, as float32 in base64, by its path without quantization; `output` and `logits` are
                         those of a float32 model with these values
"""

import base64
import gzip
import json
import os
import shutil
import tempfile
import zipfile

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import h5py
import keras
import keras_hub
import ml_dtypes
import numpy as np
from keras import ops
from keras.quantizers import unpack_int4
from keras.src.quantizers.quantizers import dequantize_with_sz_map

ROOT = os.path.join(os.path.dirname(__file__), "..", "fixtures")
OUT = os.path.join(ROOT, "keras_files")
VOCABULARY = os.path.join(ROOT, "tokenizer", "vocabulary.spm")
RNG = np.random.default_rng(41)

TEXT = dict(
    vocabulary_size=24,
    image_size=None,
    num_layers=1,
    num_query_heads=2,
    num_key_value_heads=1,
    hidden_dim=8,
    intermediate_dim=12,
    head_dim=4,
    vision_encoder=None,
    use_post_ffw_norm=True,
    use_post_attention_norm=True,
)
# Odd sizes, and last groups that are not full.
ODD = dict(hidden_dim=9, intermediate_dim=13, num_query_heads=3, num_key_value_heads=3, head_dim=2)
ENCODER = dict(
    image_size=8, patch_size=2, num_heads=2, hidden_dim=8, num_layers=1, intermediate_dim=12, output_dim=8, pool_size=2
)
EMBEDDING = dict(
    use_bidirectional_attention=True, is_embedding_model=True, pooling_intermediate_dim=20, embedding_dim=6
)


def make_backbone(dtype="float32", vision=False, **changes):
    keras.backend.clear_session()
    args = {**TEXT, **changes}
    if vision:
        args |= dict(image_size=8, vision_encoder=keras_hub.models.Gemma3VisionEncoder(**ENCODER, dtype="float32"))
    return keras_hub.models.Gemma3Backbone(**args, dtype=dtype)


def randomize(model):
    for w in model.weights:
        w.assign(RNG.normal(size=w.shape) * (1.0 if "embeddings" in w.path else 0.4))


def f32(x):
    return np.array(ops.cast(ops.convert_to_tensor(x), "float32"))


def dequantized(layer):
    """The float values of a quantized kernel, in the shape that it had."""
    mode = layer.quantization_mode
    is_embedding = hasattr(layer, "embeddings_scale")
    kernel = layer._embeddings if is_embedding else layer._kernel
    scale = f32(layer.embeddings_scale if is_embedding else layer.kernel_scale)
    if mode == "int8":
        if is_embedding:
            return f32(kernel) / scale[:, None]
        if isinstance(layer, keras.layers.EinsumDense):
            return f32(kernel) / f32(layer._adjust_scale_for_dequant(scale))
        return f32(kernel) / scale
    assert mode == "int4", mode
    if is_embedding:
        integers = unpack_int4(kernel, layer.output_dim, axis=-1)
        if scale.ndim == 1:
            return f32(integers) / scale[:, None]
        return f32(dequantize_with_sz_map(f32(integers), scale, f32(layer.embeddings_zero), f32(layer.g_idx)))
    if isinstance(layer, keras.layers.EinsumDense):
        integers = unpack_int4(kernel, layer._int4_unpacked_column_size, axis=-1)
    else:
        integers = unpack_int4(kernel, layer._orig_output_dim, axis=-1)
    if scale.ndim == 1:
        flat = f32(integers) / scale
    else:
        flat = f32(
            dequantize_with_sz_map(f32(integers), scale, f32(layer.kernel_zero), f32(layer.g_idx), group_axis=0)
        )
    if not isinstance(layer, keras.layers.EinsumDense):
        return flat
    # Rows and columns are not the axes of the kernel: Keras only divides its values, in their order.
    return f32(flat).reshape(layer.original_kernel_shape)


def float_twin(quantized, plain):
    """Gives a float32 model the values of a quantized one."""
    theirs, ours = list(quantized._flatten_layers()), list(plain._flatten_layers())
    assert [type(x) for x in theirs] == [type(x) for x in ours]
    for a, b in zip(theirs, ours):
        if getattr(a, "_is_quantized", False):
            (b._embeddings if hasattr(b, "_embeddings") else b._kernel).assign(dequantized(a))
            if getattr(a, "bias", None) is not None:
                b.bias.assign(a.bias)
        else:
            own = lambda layer: layer._trainable_variables + layer._non_trainable_variables
            for w, v in zip(own(b), own(a)):
                if w.dtype == "float32":
                    w.assign(f32(v))
    return plain


def text(array):
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()


def values(model, folder):
    """All variables by path, as Keras saves those of a model that is not quantized."""
    path = os.path.join(folder, "plain.weights.h5")
    model.save_weights(path)
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and "seed_generator" not in name:
            array = item[()]
            if item.attrs.get("dtype") == "bfloat16":
                array = array.view(ml_dtypes.bfloat16)
            found[name] = text(np.asarray(array).astype("float32"))

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def inputs_of(vision):
    x = {"token_ids": np.array([[2, 5, 7, 3, 11, 23, 0]]), "padding_mask": np.array([[1] * 6 + [0]])}
    if vision:
        x["images"] = np.random.default_rng(3).uniform(-1, 1, (1, 1, 8, 8, 3)).round(2)
        x["vision_indices"] = np.arange(1, 5)[None]
        x["vision_mask"] = np.array([[0, 1, 1, 1, 1, 0, 0]])
    return {k: np.array(v, "float32" if k == "images" else "int32") for k, v in x.items()}


def outputs(lm, x):
    hidden = lm.backbone(x)
    logits = lm.backbone.token_embedding(hidden, reverse=True)
    return {"output": f32(hidden).ravel().tolist(), "logits": f32(logits).ravel().tolist()}


def zipped(folder, target):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for where, _, files in os.walk(folder):
            for file in sorted(files):
                path = os.path.join(where, file)
                info = zipfile.ZipInfo(os.path.relpath(path, folder), (2025, 1, 1, 0, 0, 0))
                with open(path, "rb") as source:
                    archive.writestr(info, source.read(), zipfile.ZIP_DEFLATED)


def packed(path, target):
    with open(path, "rb") as source, open(target, "wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as out:
        shutil.copyfileobj(source, out)


CHANNEL = keras.quantizers.Int4QuantizationConfig(block_size=-1)
BLOCKS = keras.quantizers.Int4QuantizationConfig(block_size=4)


def mixed(lm):
    """Some layers as int8, some as int4, the embedding as it is."""
    block = lm.backbone.transformer_layers[0]
    for layer in block.attention._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.EinsumDense):
            layer.quantize("int8", type_check=False)
    block.gating_ffw.quantize("int4", type_check=False, config=CHANNEL)
    block.ffw_linear.quantize("int4", type_check=False, config=BLOCKS)


# name: (arguments of the backbone, how to quantize)
QUANTIZED = {
    "int8": ({}, lambda lm: lm.quantize("int8")),
    "int4": ({}, lambda lm: lm.quantize("int4")),
    "int4_channels": (dict(**ODD), lambda lm: lm.quantize(config=CHANNEL)),
    "int4_blocks": (dict(**ODD), lambda lm: lm.quantize(config=BLOCKS)),
    "int8_bfloat16": (dict(dtype="bfloat16"), lambda lm: lm.quantize("int8")),
    "int4_bfloat16": (dict(dtype="bfloat16"), lambda lm: lm.quantize(config=BLOCKS)),
    "int8_vision": (dict(vision=True), lambda lm: lm.quantize("int8")),
    "int4_vision": (dict(vision=True), lambda lm: lm.quantize(config=BLOCKS)),
    "mixed": ({}, mixed),
}


def make_quantized(cases):
    for name, (args, quantize) in QUANTIZED.items():
        lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=make_backbone(**args))
        randomize(lm)
        quantize(lm)
        plain = keras_hub.models.Gemma3CausalLM(
            preprocessor=None, backbone=make_backbone(**{**args, "dtype": "float32"})
        )
        float_twin(lm, plain)
        x = inputs_of(args.get("vision"))
        with tempfile.TemporaryDirectory() as folder:
            lm.save_to_preset(os.path.join(folder, "preset"))
            zipped(os.path.join(folder, "preset"), os.path.join(OUT, f"{name}.zip"))
            cases[name] = {**outputs(plain, x), "values": values(plain.backbone, folder)}
            if name == "int4_blocks":
                lm.save_weights(os.path.join(folder, "lm.weights.h5"))
                packed(os.path.join(folder, "lm.weights.h5"), os.path.join(OUT, "int4_blocks.weights.h5.gz"))
            if name == "int8_vision":
                lm.save(os.path.join(folder, "lm.keras"))
                packed(os.path.join(folder, "lm.keras"), os.path.join(OUT, "int8_vision.keras.gz"))
        # Keras' own run of int4, whose inputs are not quantized, is that of the dequantized weights.
        if name.startswith("int4") and "bfloat16" not in name:
            difference = np.abs(np.array(outputs(lm, x)["output"]) - np.array(cases[name]["output"])).max()
            print(name, "Keras' quantized output differs by", difference)
            assert difference < 2e-4, difference


def make_refused():
    layers = lambda lm: [x for x in lm.backbone._flatten_layers() if isinstance(x, keras.layers.EinsumDense)]
    for mode in ["float8", "gptq", "awq"]:
        lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=make_backbone())
        if mode == "float8":
            lm.quantize("float8")
        else:
            kind = keras.quantizers.GPTQConfig if mode == "gptq" else keras.quantizers.AWQConfig
            config = kind(dataset=None, tokenizer=None, quantization_layer_structure={})
            for layer in layers(lm):
                layer.quantize(mode, type_check=False, config=config)
                # Calibrating needs a text; what is saved has the same shapes.
                setattr(layer, f"is_{mode}_calibrated", True)
        with tempfile.TemporaryDirectory() as folder:
            lm.backbone.save_weights(os.path.join(folder, "x.weights.h5"))
            packed(os.path.join(folder, "x.weights.h5"), os.path.join(OUT, f"{mode}.weights.h5.gz"))


def make_archives(cases):
    def save(name, model):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.keras")
            model.save(path)
            print(name, [(i.filename, i.file_size, i.compress_type) for i in zipfile.ZipFile(path).infolist()])
            packed(path, os.path.join(OUT, f"{name}.keras.gz"))
            cases[name] = {"values": values(getattr(model, "backbone", model), folder)}
            if name != "backbone":
                # Large, and known from the text and the embedding.
                del cases[name]["values"]["layers/reversible_embedding/vars/0"]

    x = inputs_of(False)
    backbone = make_backbone(dtype="bfloat16")
    randomize(backbone)
    save("backbone", backbone)
    tokenizer = keras_hub.models.Gemma3Tokenizer(proto=VOCABULARY)
    size = tokenizer.vocabulary_size()
    lm = keras_hub.models.Gemma3CausalLM(
        preprocessor=keras_hub.models.Gemma3CausalLMPreprocessor(
            tokenizer, image_converter=None, sequence_length=16
        ),
        backbone=make_backbone(vocabulary_size=size),
    )
    randomize(lm)
    save("causal_lm", lm)
    cases["causal_lm"] |= outputs(lm, x)
    lm.compile(sampler="greedy")
    prompt = "Hello world"
    cases["causal_lm"]["generated"] = [prompt, lm.generate(prompt, max_length=12)]
    embedder = keras_hub.models.Gemma3TextEmbedder(
        make_backbone(vocabulary_size=size, **EMBEDDING),
        preprocessor=keras_hub.models.Gemma3TextEmbedderPreprocessor(
            keras_hub.models.Gemma3Tokenizer(proto=VOCABULARY), sequence_length=16
        ),
        pooling_mode="mean",
        normalize=True,
    )
    randomize(embedder)
    save("embedder", embedder)
    cases["embedder"]["encoded"] = [prompt, f32(embedder.encode_text([prompt])).ravel().tolist()]


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    cases = {}
    make_archives(cases)
    make_quantized(cases)
    make_refused()
    inputs = {
        kind: {name: value.tolist() for name, value in inputs_of(kind == "vision").items()}
        for kind in ["text", "vision"]
    }
    with open(os.path.join(OUT, "expected.json"), "w") as f:
        json.dump({"inputs": inputs, "cases": cases}, f)
    print({name: os.path.getsize(os.path.join(OUT, name)) for name in sorted(os.listdir(OUT))})


if __name__ == "__main__":
    main()
