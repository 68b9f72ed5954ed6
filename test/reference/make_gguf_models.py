"""Writes test/fixtures/gguf: small models as llama.cpp's converter writes them, from Keras presets of this repository.

    KERAS_BACKEND=jax python test/reference/make_gguf_models.py

Needs gguf, h5py, numpy and sentencepiece. Names follow the tables of the Python package `gguf`, from the names of
transformers; values are those of the preset, so that a model loaded from the GGUF file must equal the preset. Written:

- text.gguf, BF16, and text_f16.gguf, text_q8_0.gguf, text_q4_0.gguf: a text model with rows of whole blocks, and its preset text/
- parts-0000N-of-00003.gguf: the same in three parts
- embedding.gguf, from test/fixtures/embedder/embedding_model, with its dense layers; bare.gguf without them
- tiny.gguf, BF16, and mmproj-tiny.gguf, F32, from presets/gemma3_tiny: text and vision
- mmproj-old.gguf, F16: its vision encoder with the names of the first converter
"""

import json
import os
import pathlib
import shutil

os.environ.setdefault("KERAS_BACKEND", "jax")

import gguf
import h5py
import numpy as np
from gguf.quants import quantize
from sentencepiece import sentencepiece_model_pb2 as spm

ROOT = pathlib.Path(__file__).parent.parent.parent
FOLDER = ROOT / "test/fixtures/gguf"
F32, F16, BF16, Q8_0, Q4_0 = (gguf.GGMLQuantizationType[n] for n in ("F32", "F16", "BF16", "Q8_0", "Q4_0"))


def read_weights(preset):
    """float32 values by path in Keras' file."""
    found = {}

    def visit(path, item):
        if isinstance(item, h5py.Dataset) and "seed_generator" not in path:
            values = item[()]
            if item.attrs.get("dtype") == "bfloat16":
                values = (values.view("<u2").astype("<u4") << 16).view("<f4")
            found[path] = values.astype(np.float32)

    with h5py.File(preset / "model.weights.h5") as file:
        file["layers"].visititems(lambda path, item: visit(f"layers/{path}", item))
    return found


def block(kind, i):
    return kind + (f"_{i}" if i else "")


def transformers_tensors(weights, config):
    """The text model under the names of transformers, as torch arranges it."""
    hidden = config["hidden_dim"]
    take = lambda path: weights[f"layers/{path}/vars/0"]
    tensors = {
        "model.embed_tokens.weight": take("reversible_embedding"),
        "model.norm.weight": take("rms_normalization"),
    }
    for i in range(config["num_layers"]):
        ours, theirs = block("gemma3_decoder_block", i), f"model.layers.{i}."
        heads_in = lambda name: take(f"{ours}/attention/{name}").transpose(0, 2, 1).reshape(-1, hidden)
        for name, key in [("q", "query"), ("k", "key"), ("v", "value")]:
            tensors[f"{theirs}self_attn.{name}_proj.weight"] = heads_in(f"{key}_dense")
        tensors[f"{theirs}self_attn.o_proj.weight"] = take(f"{ours}/attention/output_dense").reshape(-1, hidden).T
        tensors[f"{theirs}self_attn.q_norm.weight"] = take(f"{ours}/attention/query_norm")
        tensors[f"{theirs}self_attn.k_norm.weight"] = take(f"{ours}/attention/key_norm")
        tensors[f"{theirs}mlp.gate_proj.weight"] = take(f"{ours}/gating_ffw").T
        tensors[f"{theirs}mlp.up_proj.weight"] = take(f"{ours}/gating_ffw_2").T
        tensors[f"{theirs}mlp.down_proj.weight"] = take(f"{ours}/ffw_linear").T
        tensors[f"{theirs}input_layernorm.weight"] = take(f"{ours}/pre_attention_norm")
        tensors[f"{theirs}post_attention_layernorm.weight"] = take(f"{ours}/post_attention_norm")
        tensors[f"{theirs}pre_feedforward_layernorm.weight"] = take(f"{ours}/pre_ffw_norm")
        tensors[f"{theirs}post_feedforward_layernorm.weight"] = take(f"{ours}/post_ffw_norm")
    if config["is_embedding_model"]:
        tensors["dense_2.weight"] = take("dense").T
        tensors["dense_3.weight"] = take("dense_1").T
    return tensors


def vision_tensors(weights, config):
    """The vision encoder and the projector under the names of transformers."""
    root = "layers/gemma3_vision_encoder/layers/"
    encoder = root + "gemma3_vision_encoder_block/"
    take = lambda path, i=0: weights[f"{encoder}{path}/vars/{i}"]
    tower = "vision_tower.vision_model."
    tensors = {
        f"{tower}embeddings.patch_embedding.weight": take("vision_embeddings/patch_embedding").transpose(3, 2, 0, 1),
        f"{tower}embeddings.patch_embedding.bias": take("vision_embeddings/patch_embedding", 1),
        f"{tower}embeddings.position_embedding.weight": take("vision_embeddings/position_embedding"),
        f"{tower}post_layernorm.weight": take("encoder_layer_norm"),
        f"{tower}post_layernorm.bias": take("encoder_layer_norm", 1),
        "multi_modal_projector.mm_soft_emb_norm.weight": weights[
            f"{root}gemma3_vision_output/vision_soft_embedding_norm/vars/0"
        ],
        "multi_modal_projector.mm_input_projection.weight": weights[
            f"{root}gemma3_vision_output/vision_input_projection/vars/0"
        ],
    }
    for i in range(config["num_layers"]):
        ours, theirs = f"resblocks/{block('gemma3_vision_encoder_layer', i)}/", f"{tower}encoder.layers.{i}."
        for name, key in [("q_proj", "query_proj"), ("k_proj", "key_proj"), ("v_proj", "value_proj"), ("out_proj", "out_proj")]:
            tensors[f"{theirs}self_attn.{name}.weight"] = take(f"{ours}attn/{key}").T
            tensors[f"{theirs}self_attn.{name}.bias"] = take(f"{ours}attn/{key}", 1)
        for name, key in [("fc1", "mlp_dense_1"), ("fc2", "mlp_dense_2")]:
            tensors[f"{theirs}mlp.{name}.weight"] = take(f"{ours}{key}").T
            tensors[f"{theirs}mlp.{name}.bias"] = take(f"{ours}{key}", 1)
        for name, key in [("layer_norm1", "layer_norm_1"), ("layer_norm2", "layer_norm_2")]:
            tensors[f"{theirs}{name}.weight"] = take(f"{ours}{key}")
            tensors[f"{theirs}{name}.bias"] = take(f"{ours}{key}", 1)
    return tensors


def add_tensors(writer, tensors, arch, blocks, kind, rename=lambda name: name):
    names = gguf.get_tensor_name_map(arch, blocks)
    for name, values in tensors.items():
        # As Gemma's RMS norms: 1 + scale.
        rms = name.endswith("norm.weight") and "vision_tower" not in name
        values = np.ascontiguousarray(values + 1 if rms else values)
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        wanted = F32 if values.ndim == 1 or ".embeddings." in name else kind
        data = quantize(values, wanted)
        writer.add_tensor(rename(target), data, raw_dtype=None if wanted in (F32, F16) else wanted)


def add_vocabulary(writer, path, rows):
    """As the converter: special tokens become control tokens, others that are recognized in texts keep their spaces."""
    model = spm.ModelProto()
    model.ParseFromString(path.read_bytes())
    tokens, scores, types = [], [], []
    for id, piece in enumerate(model.pieces[:rows]):
        special = piece.type in (2, 3) or piece.piece in ("<mask>", "<start_of_turn>", "<end_of_turn>", "<unused0>")
        added = piece.type in (2, 3, 4)
        tokens.append(piece.piece.replace("\u2581", " ") if added and not special else piece.piece)
        scores.append(-1000.0 if added else piece.score)
        types.append(3 if special else piece.type)
    tokens += [f"[PAD{i}]" for i in range(len(tokens), rows)]
    types += [5] * (rows - len(scores))
    scores += [-1000.0] * (rows - len(scores))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    ids = {piece: id for id, piece in enumerate(tokens)}
    writer.add_bos_token_id(ids["<bos>"])
    # As in many instruction-tuned files.
    writer.add_eos_token_id(ids.get("<end_of_turn>", ids["<eos>"]))
    writer.add_unk_token_id(ids["<unk>"])
    writer.add_pad_token_id(ids["<pad>"])
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


def text_writer(path, preset, config, arch="gemma3", **options):
    writer = gguf.GGUFWriter(path, arch, **options)
    writer.add_type("model")
    writer.add_context_length(32768)
    writer.add_embedding_length(config["hidden_dim"])
    writer.add_block_count(config["num_layers"])
    writer.add_feed_forward_length(config["intermediate_dim"])
    writer.add_head_count(config["num_query_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["layer_norm_epsilon"])
    writer.add_rope_freq_base(1_000_000.0)
    if config["global_rope_scaling_factor"] != 1:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config["global_rope_scaling_factor"])
    writer.add_sliding_window(config["sliding_window_size"])
    if config["is_embedding_model"]:
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    add_vocabulary(writer, preset / "assets/tokenizer/vocabulary.spm", config["vocabulary_size"])
    return writer


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_text(name, preset, kind, arch=gguf.MODEL_ARCH.GEMMA3, leave_out=(), **options):
    config = json.loads((preset / "config.json").read_text())["config"]
    tensors = transformers_tensors(read_weights(preset), config)
    tensors = {key: value for key, value in tensors.items() if key not in leave_out}
    writer = text_writer(FOLDER / f"{name}.gguf", preset, config, gguf.MODEL_ARCH_NAMES[arch], **options)
    if "dense_2.weight" in tensors:
        for dense in ("dense_2", "dense_3"):
            out, inner = tensors[f"{dense}.weight"].shape
            writer.add_dense_features_dims(dense, inner, out)
    add_tensors(writer, tensors, arch, config["num_layers"], kind)
    finish(writer)


def write_vision(name, preset, kind, old=False):
    config = json.loads((preset / "config.json").read_text())["config"]["vision_encoder"]["config"]
    converter = json.loads((preset / "image_converter.json").read_text())["config"]
    writer = gguf.GGUFWriter(FOLDER / f"{name}.gguf", "clip")
    writer.add_type("mmproj")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("gemma3")
    writer.add_vision_projection_dim(config["output_dim"])
    writer.add_vision_image_size(config["image_size"])
    writer.add_vision_patch_size(config["patch_size"])
    writer.add_vision_embedding_length(config["hidden_dim"])
    writer.add_vision_feed_forward_length(config["intermediate_dim"])
    writer.add_vision_block_count(config["num_layers"])
    writer.add_vision_head_count(config["num_heads"])
    writer.add_vision_attention_layernorm_eps(config["layer_norm_epsilon"])
    std = 1 / 255 / converter["scale"]
    writer.add_vision_image_mean([-converter["offset"] * std] * 3)
    writer.add_vision_image_std([std] * 3)
    writer.add_vision_use_gelu(True)
    writer.add_vision_projector_scale_factor(config["pool_size"])
    swap = {"ffn_up": "ffn_down", "ffn_down": "ffn_up"}
    rename = lambda name: ".".join(swap.get(part, part) for part in name.split(".")) if old else name
    tensors = vision_tensors(read_weights(preset), config)
    add_tensors(writer, tensors, gguf.MODEL_ARCH.MMPROJ, config["num_layers"], kind, rename)
    finish(writer)


def make_text_preset(folder):
    """A random model whose rows are whole blocks of 32."""
    import keras_hub

    hub = keras_hub.models
    backbone = hub.Gemma3Backbone(
        vocabulary_size=1500,
        image_size=None,
        num_layers=7,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=32,
        intermediate_dim=64,
        head_dim=32,
        query_head_dim_normalize=True,
        use_query_key_norm=True,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        use_sliding_window_attention=True,
        sliding_window_size=4,
        global_rope_scaling_factor=8.0,
        vision_encoder=None,
        layer_norm_epsilon=1e-6,
        dtype="bfloat16",
    )
    rng = np.random.default_rng(5)
    for variable in backbone.weights:
        spread = 0.3 if len(variable.shape) == 1 else 1 / np.sqrt(np.prod(variable.shape[:-1]))
        variable.assign(rng.normal(0, spread, variable.shape))
    vocabulary = str(ROOT / "test/fixtures/tokenizer/vocabulary.spm")
    tokenizer = hub.Gemma3Tokenizer(proto=vocabulary, has_vision_tokens=False)
    preprocessor = hub.Gemma3CausalLMPreprocessor(
        tokenizer=tokenizer, image_converter=None, sequence_length=1024
    )
    task = hub.Gemma3CausalLM(backbone=backbone, preprocessor=preprocessor)
    shutil.rmtree(folder, ignore_errors=True)
    task.save_to_preset(str(folder))


def main():
    text = FOLDER / "text"
    make_text_preset(text)
    write_text("text", text, BF16)
    write_text("text_f16", text, F16)
    write_text("text_q8_0", text, Q8_0)
    write_text("text_q4_0", text, Q4_0)
    for old in FOLDER.glob("parts-*.gguf"):
        old.unlink()
    write_text("parts", text, BF16, split_max_tensors=40)
    embedder = ROOT / "test/fixtures/embedder/embedding_model"
    embedding = gguf.MODEL_ARCH.GEMMA_EMBEDDING
    write_text("embedding", embedder, F32, embedding)
    write_text("bare", embedder, F32, embedding, leave_out=("dense_2.weight", "dense_3.weight"))
    tiny = ROOT / "presets/gemma3_tiny"
    write_vision("mmproj-tiny", tiny, F32)
    write_vision("mmproj-old", tiny, F16, old=True)
    write_text("tiny", tiny, BF16)
    for path in sorted(FOLDER.glob("*.gguf")):
        print(path.name, os.path.getsize(path))


if __name__ == "__main__":
    main()
