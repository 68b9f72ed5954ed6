"""Writes test/fixtures/embedder: what KerasHub's Gemma3TextEmbedder and its preprocessor make of text.

    python test/reference/make_embedder_fixtures.py [packing]

Each case of embeddings is a preset folder as `save_to_preset` writes it (a tiny random model), and expected.json.
preprocessor.json holds padded token ids. With "packing", only that file is written.
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

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "fixtures")
OUT = os.path.join(FIXTURES, "embedder")
PROTO = os.path.join(FIXTURES, "tokenizer", "vocabulary.spm")

LONG = "the quick brown fox jumps over the lazy dog " * 3
TEXTS = [
    "Which planet is known as the Red Planet?",
    "Mars",
    LONG,
    "",
    "naïve café 🙂\n\n  two",
    "a b c",
]
SEGMENTS = [
    ["Hi"],
    [["Hi", LONG, ""]],
    ["the quick", "brown fox"],
    [LONG, "short"],
    ["short", LONG],
    [["a", LONG], [LONG, "b"], ["c", LONG]],
    ["", ""],
]

SMALL = dict(
    image_size=None,
    num_layers=3,
    num_query_heads=2,
    num_key_value_heads=1,
    hidden_dim=12,
    intermediate_dim=16,
    head_dim=4,
    use_post_ffw_norm=True,
    use_post_attention_norm=True,
    use_sliding_window_attention=True,
    sliding_window_size=7,
    dtype="float32",
)
EMBEDDING = dict(
    use_bidirectional_attention=True, is_embedding_model=True, pooling_intermediate_dim=20, embedding_dim=6
)
# name: (arguments of the backbone, of the embedder, of the preprocessor)
CASES = {
    "last": (dict(), dict(), dict()),
    "mean": (dict(), dict(pooling_mode="mean"), dict(sequence_length=20, truncate="waterfall")),
    "last_unnormalized": (dict(), dict(pooling_mode="last", normalize=False), dict()),
    "mean_unnormalized": (dict(), dict(pooling_mode="mean", normalize=False), dict()),
    "embedding_model": (EMBEDDING, dict(), dict()),
}


def numbers(x):
    return [[float(f"{v:.8g}") for v in row] for row in np.asarray(x, "float32")]


def ints(x):
    return np.asarray(x).astype("int32").tolist()


def new_tokenizer():
    return keras_hub.models.Gemma3Tokenizer(proto=PROTO, has_vision_tokens=True)


def embeddings():
    for seed, (name, (backbone_args, args, packing)) in enumerate(CASES.items()):
        rng = np.random.default_rng(seed)
        keras.backend.clear_session()
        tokenizer = new_tokenizer()
        backbone = keras_hub.models.Gemma3Backbone(
            vocabulary_size=tokenizer.vocabulary_size(), **SMALL, **backbone_args
        )
        for w in backbone.weights:
            scale = 1.0 if "embeddings" in w.path else 0.3 if "scale" in w.path else 1.0 / np.sqrt(w.shape[-2])
            w.assign(rng.normal(size=w.shape) * scale)
        preprocessor = keras_hub.models.Gemma3TextEmbedderPreprocessor(tokenizer=tokenizer, **packing)
        embedder = keras_hub.models.Gemma3TextEmbedder(backbone=backbone, preprocessor=preprocessor, **args)
        folder = os.path.join(OUT, name)
        shutil.rmtree(folder, ignore_errors=True)
        embedder.save_to_preset(folder)
        vectors = embedder.encode_text(TEXTS)
        # Named inputs: rows without padding, with padding before the text, and with padding after it.
        token_ids = rng.integers(3, backbone.vocabulary_size, (3, 9))
        padding_mask = np.ones((3, 9), "int32")
        padding_mask[1, :4] = 0
        padding_mask[2, 6:] = 0
        embedder.preprocessor = None
        expected = {
            "texts": TEXTS,
            "embeddings": numbers(vectors),
            "similarity": numbers(embedder.similarity(vectors[:2], vectors)),
            "one": numbers(vectors[1:2]),
            "inputs": {"token_ids": ints(token_ids), "padding_mask": ints(padding_mask)},
            "predicted": numbers(embedder.predict({"token_ids": token_ids, "padding_mask": padding_mask}, verbose=0)),
        }
        with open(os.path.join(folder, "expected.json"), "w") as f:
            json.dump(expected, f)
        files = sorted(os.listdir(folder))
        size = sum(os.path.getsize(os.path.join(folder, f)) for f in files if os.path.isfile(os.path.join(folder, f)))
        print(name, size, files)


def packed():
    cases = []
    for truncate in ("round_robin", "waterfall"):
        for length in (40, 9, 4):
            tokenizer = new_tokenizer()
            preprocessor = keras_hub.models.Gemma3TextEmbedderPreprocessor(
                tokenizer=tokenizer, sequence_length=length, truncate=truncate
            )
            preprocessor.build(None)
            for segments in SEGMENTS:
                # Repeats the steps of `call`: Keras' `__call__` does not pass tuples through unchanged.
                token_ids, segment_ids = preprocessor.packer(tuple(tokenizer(segment) for segment in segments))
                x = preprocessor._format_output(np.asarray(token_ids), segment_ids)
                cases.append({
                    "segments": segments, "sequenceLength": length, "truncate": truncate,
                    "token_ids": ints(x["token_ids"]), "padding_mask": ints(x["padding_mask"]),
                })
    with open(os.path.join(OUT, "preprocessor.json"), "w") as f:
        json.dump(cases, f)
    print(len(cases), "cases of packing")


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    packed()
    if "packing" not in sys.argv[1:]:
        embeddings()
