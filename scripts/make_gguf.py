"""Convert a Keras Gemma 3 text preset to a GGUF file for llama.cpp.

Usage:
    python make_gguf.py PRESET_DIR OUT.gguf [--type bf16|q8_0|q4_0|f32]

Every matrix is written in the given type, including the embedding, which is also the output head: no matrix
is kept in a higher precision. Norm weights are float32, as llama.cpp requires. From a bfloat16 preset, bf16 and
f32 hold the same values as the preset, bit for bit.

Needs gguf, h5py, numpy and sentencepiece.
"""

import argparse
import importlib.util
import json
import os
import sys

PACKAGES = ["gguf", "h5py", "numpy", "sentencepiece"]
WEIGHTS = "model.weights.h5"
VOCABULARY = "assets/tokenizer/vocabulary.spm"
# KerasHub has these as constants in its code, not in the configuration.
GLOBAL_ROPE_WAVELENGTH = 1_000_000.0
CONTEXT_LENGTH = 32_768


class Failure(Exception):
    """An error to show to the user as its message only."""


def read_config(preset):
    path = os.path.join(preset, "config.json")
    if not os.path.isfile(path):
        raise Failure(f"Expected a Keras preset in {preset}: it has no config.json.")
    with open(path) as f:
        saved = json.load(f)
    if saved["class_name"] != "Gemma3Backbone":
        raise Failure(f"Expected a Gemma3Backbone in {preset}. Received: {saved['class_name']}.")
    config = saved["config"]
    if config.get("vision_encoder"):
        raise Failure(f"{preset} has a vision encoder: only text presets can be converted.")
    for name in ("use_bidirectional_attention", "attention_logit_soft_cap", "final_logit_soft_cap"):
        if config.get(name):
            raise Failure(f"{preset} sets {name}, which llama.cpp's Gemma 3 does not support.")
    for name in (WEIGHTS, VOCABULARY):
        if not os.path.isfile(os.path.join(preset, name)):
            raise Failure(f"{preset} has no {name}.")
    return config


def weight_table(config):
    """Map every tensor of the GGUF file to its path in the HDF5 file and the transform of its values."""
    hidden = config["hidden_dim"]

    def as_is(w):
        return w

    def norm(w):  # Keras stores the factor minus 1, GGUF the factor itself.
        return w + 1.0

    def dense(w):
        return w.T

    def heads_in(w):  # [heads, hidden, head_dim] to [heads * head_dim, hidden]
        return w.transpose(0, 2, 1).reshape(-1, hidden)

    def heads_out(w):  # [heads, head_dim, hidden] to [hidden, heads * head_dim]
        return w.reshape(-1, hidden).T

    table = {
        "token_embd": ("reversible_embedding", as_is),
        "output_norm": ("rms_normalization", norm),
    }
    for i in range(config["num_layers"]):
        block = "gemma3_decoder_block" + (f"_{i}" if i else "")
        names = {
            "attn_norm": ("pre_attention_norm", norm),
            "attn_q": ("attention/query_dense", heads_in),
            "attn_k": ("attention/key_dense", heads_in),
            "attn_v": ("attention/value_dense", heads_in),
            "attn_q_norm": ("attention/query_norm", norm),
            "attn_k_norm": ("attention/key_norm", norm),
            "attn_output": ("attention/output_dense", heads_out),
            "post_attention_norm": ("post_attention_norm", norm),
            "ffn_norm": ("pre_ffw_norm", norm),
            "ffn_gate": ("gating_ffw", dense),
            "ffn_up": ("gating_ffw_2", dense),
            "ffn_down": ("ffw_linear", dense),
            "post_ffw_norm": ("post_ffw_norm", norm),
        }
        table.update({f"blk.{i}.{name}": (f"{block}/{path}", transform) for name, (path, transform) in names.items()})
    return {f"{name}.weight": (f"layers/{path}/vars/0", transform) for name, (path, transform) in table.items()}


def read_weight(dataset):
    """Read float32 values. h5py has no bfloat16: Keras saves it as two opaque bytes with an attribute "dtype"."""
    import numpy as np

    values = dataset[()]
    if dataset.attrs.get("dtype") == "bfloat16":
        return (values.view("<u2").astype("<u4") << 16).view("<f4")
    return values.astype(np.float32)


def add_model(writer, config):
    writer.add_type("model")
    writer.add_name("Gemma 3")
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(config["hidden_dim"])
    writer.add_block_count(config["num_layers"])
    writer.add_feed_forward_length(config["intermediate_dim"])
    writer.add_head_count(config["num_query_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["layer_norm_epsilon"])
    writer.add_rope_freq_base(GLOBAL_ROPE_WAVELENGTH)
    # KerasHub divides positions by it in the global layers only, as llama.cpp does.
    scaling = config.get("global_rope_scaling_factor", 1.0)
    if scaling != 1.0:
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling)
    writer.add_sliding_window(config["sliding_window_size"])


def add_vocabulary(writer, path, size):
    from sentencepiece import sentencepiece_model_pb2 as spm

    model = spm.ModelProto()
    with open(path, "rb") as f:
        model.ParseFromString(f.read())
    pieces = [(p.piece, p.score, p.type) for p in model.pieces]
    # GGUF and SentencePiece number the token types alike.
    unused = spm.ModelProto.SentencePiece.UNUSED
    pieces += [(f"[UNUSED{i}]", -1000.0, unused) for i in range(len(pieces), size)]
    tokens, scores, types = zip(*pieces)
    trainer = model.trainer_spec
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(trainer.bos_id)
    writer.add_eos_token_id(trainer.eos_id)
    writer.add_unk_token_id(trainer.unk_id)
    writer.add_pad_token_id(trainer.pad_id)
    if "<end_of_turn>" in tokens:
        writer.add_eot_token_id(tokens.index("<end_of_turn>"))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def make(preset, out, kind):
    import h5py
    from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType
    from gguf.quants import QuantError, quantize

    config = read_config(preset)
    matrix_type = GGMLQuantizationType[kind.upper()]
    file_type = LlamaFileType.ALL_F32 if kind == "f32" else LlamaFileType[f"MOSTLY_{kind.upper()}"]
    part = out + ".part"
    writer = GGUFWriter(part, "gemma3")
    try:
        add_model(writer, config)
        add_vocabulary(writer, os.path.join(preset, VOCABULARY), config["vocabulary_size"])
        writer.add_file_type(file_type)
        writer.add_quantization_version(GGML_QUANT_VERSION)
        with h5py.File(os.path.join(preset, WEIGHTS)) as weights:
            for name, (path, transform) in weight_table(config).items():
                if path not in weights:
                    raise Failure(f"{WEIGHTS} has no {path}.")
                values = transform(read_weight(weights[path]))
                tensor_type = matrix_type if values.ndim == 2 else GGMLQuantizationType.F32
                try:
                    data = quantize(values, tensor_type)
                except QuantError as error:
                    raise Failure(f"Cannot store {name} of shape {list(values.shape)} as {kind}: {error}") from error
                writer.add_tensor(name, data, raw_dtype=tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(part, out)
    finally:
        if os.path.exists(part):
            os.remove(part)


def main():
    parser = argparse.ArgumentParser(description="Convert a Keras Gemma 3 text preset to a GGUF file for llama.cpp.")
    parser.add_argument("preset", help="the folder of the preset")
    parser.add_argument("out", help="the file to write")
    parser.add_argument("--type", default="bf16", choices=["bf16", "q8_0", "q4_0", "f32"], help="type of every matrix")
    args = parser.parse_args()
    missing = [m for m in PACKAGES if importlib.util.find_spec(m) is None]
    if missing:
        sys.exit(f"{sys.executable} lacks required packages: {', '.join(missing)}.")
    try:
        make(args.preset.rstrip("/"), args.out, args.type)
    except Failure as failure:
        sys.exit(str(failure))
    print(f"wrote {args.out}, {os.path.getsize(args.out) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
