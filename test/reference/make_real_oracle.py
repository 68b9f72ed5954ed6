"""Record KerasHub's own answers for a real Gemma 3 preset.

Usage:
    python make_real_oracle.py PRESET_DIR OUT.json

The preset is loaded in float32. The file holds
  - for every prompt: its token ids (with the start token), the greedy text, the ten
    largest logits at the last position, and the first values of the backbone's hidden
    state there;
  - the greedy texts of a batch of three prompts;
  - the greedy text after a prompt three times as long as the sliding window;
  - for each pooling mode: the first values of embeddings of texts, their norms and
    their similarities.
The tests compare this library with it. Other entries of OUT.json are kept: other
scripts also write to it.

KERAS_BACKEND selects the backend (default: tensorflow).
"""

import json
import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PROMPTS = [
    "Once upon a time",
    "The capital of France is",
    "def fibonacci(n):",
    "Die Hauptstadt von Deutschland ist",
    "1, 2, 3, 4,",
    "<start_of_turn>user\nWrite a haiku about the sea.<end_of_turn>\n<start_of_turn>model\n",
]
TEXTS = [
    "Which planet is known as the Red Planet?",
    "Mars is often referred to as the Red Planet.",
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "Paris",
    "naïve café 🙂\n\n  deux lignes",
]
BATCH = 3
# 1,555 tokens; the numbers to continue with are far outside the window of 512.
LONG_PROMPT = "The log of the ship.\n" + "".join(
    f"Day {day}: we sailed {day * 37 % 101} miles to the north and saw {day * 53 % 17} whales.\n"
    for day in range(1, 74)
)
LONG_NEW_TOKENS = 48
MAX_LENGTH = 60
TOP = 10
HIDDEN = 16


def as_floats(values):
    return [float(v) for v in values]


def embeddings(keras_hub, np, lm, say):
    """Embeddings from the same backbone, by pooling mode."""
    preprocessor = keras_hub.models.Gemma3TextEmbedderPreprocessor(tokenizer=lm.preprocessor.tokenizer)
    pooled = {}
    for mode in ("last", "mean"):
        embedder = keras_hub.models.Gemma3TextEmbedder(
            backbone=lm.backbone, preprocessor=preprocessor, pooling_mode=mode, normalize=False
        )
        raw = np.asarray(embedder.encode_text(TEXTS))
        unit = np.asarray(
            keras_hub.models.Gemma3TextEmbedder(
                backbone=lm.backbone, preprocessor=preprocessor, pooling_mode=mode
            ).encode_text(TEXTS)
        )
        pooled[mode] = {
            "lengths": as_floats(np.linalg.norm(raw, axis=-1)),
            "vectors": [as_floats(row[:HIDDEN]) for row in unit],
            "similarity": [as_floats(row) for row in np.asarray(embedder.similarity(unit, unit))],
        }
        say(f"embeddings of {len(TEXTS)} texts, pooling_mode={mode}")
    token_ids = np.asarray(preprocessor(TEXTS)["token_ids"])
    return {"texts": TEXTS, "tokenIds": [[int(i) for i in row if i] for row in token_ids], "pooling": pooled}


def main():
    if len(sys.argv) != 3:
        sys.exit("Usage: make_real_oracle.py PRESET_DIR OUT.json")
    preset, out = sys.argv[1].rstrip("/"), sys.argv[2]
    if not os.path.exists(os.path.join(preset, "config.json")):
        sys.exit(f"Expected a preset in {preset}: config.json is missing.")
    try:
        import keras
        import keras_hub
        import numpy as np
    except ImportError as error:
        sys.exit(f"{sys.executable} lacks a required package: {error}")

    started = time.time()

    def say(text):
        print(f"[{time.time() - started:6.1f} s] {text}", flush=True)

    say(f"loading {preset} in float32 on {keras.backend.backend()}")
    lm = keras_hub.models.Gemma3CausalLM.from_preset(preset, dtype="float32")
    lm.compile(sampler="greedy")
    tokenizer = lm.preprocessor.tokenizer
    embedding = lm.backbone.token_embedding
    say("loaded")

    prompts = []
    for prompt in PROMPTS:
        ids = [tokenizer.start_token_id, *map(int, np.asarray(tokenizer(prompt)))]
        text = lm.generate(prompt, max_length=MAX_LENGTH)
        inputs = {
            "token_ids": np.array([ids], "int32"),
            "padding_mask": np.ones((1, len(ids)), "int32"),
        }
        hidden = lm.backbone(inputs)
        logits = keras.ops.convert_to_numpy(embedding(hidden[:, -1:], reverse=True))[0, 0]
        hidden = keras.ops.convert_to_numpy(hidden)[0, -1]
        top = np.argsort(-logits, kind="stable")[:TOP]
        prompts.append(
            {
                "prompt": prompt,
                "tokenIds": ids,
                "text": text,
                "top": {"ids": [int(i) for i in top], "logits": as_floats(logits[top])},
                "hidden": as_floats(hidden[:HIDDEN]),
            }
        )
        say(f"{json.dumps(prompt)}: {len(ids)} tokens, greedy text of {len(text)} characters")

    texts = lm.generate(PROMPTS[:BATCH], max_length=MAX_LENGTH)
    say(f"a batch of {BATCH}")

    long_ids = [tokenizer.start_token_id, *map(int, np.asarray(tokenizer(LONG_PROMPT)))]
    long_length = len(long_ids) + LONG_NEW_TOKENS
    long_text = lm.generate(LONG_PROMPT, max_length=long_length)
    say(f"a prompt of {len(long_ids)} tokens goes on: {json.dumps(long_text[len(LONG_PROMPT):])}")

    oracle = {
        "keras": keras.__version__,
        "kerasHub": keras_hub.__version__,
        "backend": keras.backend.backend(),
        "dtype": "float32",
        "sampler": "greedy",
        "maxLength": MAX_LENGTH,
        "prompts": prompts,
        "batch": {"prompts": PROMPTS[:BATCH], "texts": list(texts)},
        "embedder": embeddings(keras_hub, np, lm, say),
        "long": {"prompt": LONG_PROMPT, "tokenIds": long_ids, "maxLength": long_length, "text": long_text},
    }
    if os.path.exists(out):
        with open(out, encoding="utf-8") as f:
            oracle = {**json.load(f), **oracle}
    part = out + ".part"
    with open(part, "w", encoding="utf-8") as f:
        json.dump(oracle, f, ensure_ascii=False, indent=1)
        f.write("\n")
    os.replace(part, out)
    say(f"wrote {out}")


if __name__ == "__main__":
    main()
