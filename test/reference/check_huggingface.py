"""Check that other programs read the Hugging Face folders that this package writes.

`export_huggingface.mjs` in this folder runs the package in `dist`. Presets that Python KerasHub saved become folders, which
must
  - load in KerasHub, with the hidden states or embeddings of the preset (within 1e-4) and the same greedy texts;
  - open with `safetensors`, with the names, dtypes and bits of the preset's variables;
  - give the ids of SentencePiece in `tokenizers`, from tokenizer.json, on the texts of test/fixtures/tokenizer.
With models/gemma3_270m, also the vocabulary and the values of the real model. Prints one line per case and exits with 1 on
any difference.

Usage: python check_huggingface.py   (after `npm run build`)
"""

import glob
import json
import os
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ml_dtypes
import numpy as np
import sentencepiece
from check_saved_presets import HERE, TEXT, TOLERANCE, VISION, Check, distance, hidden_states, inputs_of, run_node
from safetensors import safe_open
from tokenizers import Tokenizer

FIXTURES = os.path.join(HERE, "../fixtures")
VOCABULARY = os.path.join(FIXTURES, "tokenizer/vocabulary.spm")
REAL = os.path.join(HERE, "../../models/gemma3_270m")
PROMPTS = ["the river", "a story of 12,345 words"]
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# KerasHub reads no other size of pools, and no other widths of the dense layers.
VISION = {**VISION, "image_size": 32, "pool_size": 4}
EMBEDDER = {"use_bidirectional_attention": True, "is_embedding_model": True, "pooling_intermediate_dim": 3072}


def tensors(folder):
    """All tensors of a folder: name -> values. The names and files must be those of the index."""
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():
                assert name not in found, f"{name} is stored twice"
                found[name] = (os.path.basename(path), file.get_tensor(name))
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as f:
            index = json.load(f)
        assert index["weight_map"] == {name: file for name, (file, _) in found.items()}, "the index lists other files"
        assert index["metadata"]["total_size"] == sum(values.nbytes for _, values in found.values())
    return {name: values for name, (_, values) in found.items()}


def equal_bits(a, b):
    """Whether two backbones have the same variables."""
    return [
        f"{x.path} has other values"
        for x, y in zip(a.weights, b.weights, strict=True)
        if np.asarray(x.value, dtype="float32").tobytes() != np.asarray(y.value, dtype="float32").tobytes()
    ]


def check_tokenizer(folder, texts):
    """Compares tokenizer.json and tokenizer.model with known ids."""
    fast = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    slow = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
    problems = []
    for text, ids in texts:
        for name, found in (
            ("tokenizers", fast.encode(text, add_special_tokens=False).ids),
            ("sentencepiece", slow.encode(text)),
        ):
            if found != ids:
                problems.append(f"{name} gives {found[:20]} for {text[:40]!r}, expected {ids[:20]}")
    bos = fast.encode("a").ids[0]
    if bos != fast.token_to_id("<bos>"):
        problems.append(f"a text begins with {bos}")
    return problems


def texts_of(fixture):
    with open(os.path.join(FIXTURES, "tokenizer", fixture)) as f:
        texts = [(text, ids) for text, ids, *_ in json.load(f)["texts"]]
    # Python's strings may hold half a surrogate pair, which is no text. Hugging Face's tokenizers, with Google's files too,
    # read control tokens in a text, which SentencePiece does not.
    control = ("<bos>", "<eos>", "<pad>", "<unk>")
    return [
        (text, ids)
        for text, ids in texts
        if not any("\ud800" <= c <= "\udfff" for c in text) and not any(token in text for token in control)
    ]


def main():
    import keras
    import keras_hub

    models = keras_hub.models
    rng = np.random.default_rng(11)
    check = Check()
    tokenizer = models.Gemma3Tokenizer(VOCABULARY, has_vision_tokens=True)
    size = tokenizer.vocabulary_size()
    cases = []
    with tempfile.TemporaryDirectory() as root:
        for name, vision, dtype, options, extra in (
            ("text, float32", None, "float32", {}, {"global_rope_scaling_factor": 8.0, "num_layers": 7}),
            ("text, bfloat16, shards", None, "bfloat16", {"shardSize": 30_000}, {}),
            ("text, float16", None, "float16", {}, {"final_logit_soft_cap": None}),
            ("vision, float32, shards", VISION, "float32", {"shardSize": 30_000}, {}),
            ("vision, bfloat16", VISION, "bfloat16", {}, {}),
            ("vision, all bfloat16", VISION, "bfloat16", {"dtype": "bfloat16"}, {}),
            ("embedder, float32", None, "float32", {}, {**EMBEDDER, "embedding_dim": TEXT["hidden_dim"]}),
        ):
            encoder = vision and models.Gemma3VisionEncoder(**vision, dtype="float32")
            config = {**TEXT, "vocabulary_size": size, "dropout": 0.0, **extra}
            config |= {"image_size": vision and vision["image_size"], "vision_encoder": encoder}
            backbone = models.Gemma3Backbone(**config, dtype=dtype)
            for variable in backbone.weights:
                values = rng.normal(0, 0.3, variable.shape)
                # Values that bfloat16 holds, for encoders that are written in it.
                variable.assign(values.astype(ml_dtypes.bfloat16).astype("float32"))
            preset = os.path.join(root, f"{name}-keras")
            embedder = backbone.is_embedding_model
            if vision:
                backbone.save_to_preset(preset)
            elif embedder:
                models.Gemma3TextEmbedder(
                    backbone, models.Gemma3TextEmbedderPreprocessor(tokenizer, sequence_length=32), pooling_mode="mean"
                ).save_to_preset(preset)
            else:
                models.Gemma3CausalLM(
                    models.Gemma3CausalLMPreprocessor(tokenizer, sequence_length=64), backbone
                ).save_to_preset(preset)
            inputs = inputs_of({**config, "vision_encoder": vision}, rng)
            cases.append((name, preset, os.path.join(root, name), inputs, options, embedder, vision))
        results = run_node(
            [
                {"load": preset, "convertTo": to, "options": options}
                | ({"embedder": True, "texts": PROMPTS} if embedder else {"inputs": inputs})
                for _, preset, to, inputs, options, embedder, _ in cases
            ],
            root,
            "export_huggingface.mjs",
        )
        for (name, preset, to, inputs, options, embedder, vision), result in zip(cases, results):
            problems, notes = [], []
            backbone = models.Gemma3Backbone.from_preset(to, dtype="float32")
            original = models.Gemma3Backbone.from_preset(preset, dtype="float32")
            problems += equal_bits(original, backbone)
            if embedder:
                loaded = models.Gemma3TextEmbedder.from_preset(to, dtype="float32")
                batch = models.Gemma3TextEmbedderPreprocessor(tokenizer, sequence_length=32)(PROMPTS)
                off = distance(np.array(loaded(batch)).ravel(), result["hidden"])
            else:
                off = distance(hidden_states(backbone, inputs), result["hidden"])
            notes.append(f"{'vectors' if embedder else 'hidden states'} within {off:.1e}")
            if not off < TOLERANCE:
                problems.append(f"results differ by {off}")
            if not embedder and not vision:
                texts = []
                for folder in (preset, to):
                    lm = models.Gemma3CausalLM.from_preset(folder, dtype="float32")
                    lm.compile(sampler="greedy")
                    texts.append(lm.generate(PROMPTS, max_length=24))
                if texts[0] != texts[1]:
                    problems.append(f"texts: {texts[1]}, of the preset {texts[0]}")
                notes.append("same texts")
            if not vision:
                problems += check_tokenizer(to, texts_of("small.json"))
                notes.append("same ids")
            stored = tensors(to)
            want = options.get("dtype")
            if want and {str(values.dtype) for values in stored.values()} != {want}:
                problems.append(f"not all tensors are {want}")
            files = len(glob.glob(os.path.join(to, "*.safetensors")))
            notes.append(f"{len(stored)} tensors in {files} file{'s' if files > 1 else ''}")
            check.report(name, ", ".join(notes), problems)
            keras.backend.clear_session()

        if os.path.exists(os.path.join(REAL, "model.weights.h5")):
            to = os.path.join(root, "real")
            run_node([{"load": REAL, "convertTo": to, "options": {"shardSize": 200_000_000}}], root, "export_huggingface.mjs")
            backbone = models.Gemma3Backbone.from_preset(to)
            problems = equal_bits(models.Gemma3Backbone.from_preset(REAL), backbone)
            problems += check_tokenizer(to, texts_of("real_270m.json"))
            check.report("the real model", f"{len(tensors(to))} tensors equal, same ids", problems)
    print(f"{check.failed} differ; KerasHub {keras_hub.__version__}, Keras {keras.__version__}")
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
