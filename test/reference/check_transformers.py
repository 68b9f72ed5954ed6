"""Check that transformers and sentence-transformers read the folders that this package writes, and compute the same.

`check_transformers.mjs` in this folder runs the package in `dist`. For each folder: no tensor is missing or unknown; the
ids of texts, of a conversation and of one with a picture are the same; so are greedy texts; logits agree within 1e-4 of
the largest, pixels within 1e-6, and embeddings within 1e-5. Covers text and vision; float32, bfloat16 and float16; one
file and shards; EmbeddingGemma's layout; and models/gemma3_270m, if it is there. Prints one line per case and exits with 1
on any difference.

By hand, since PyTorch takes gigabytes: pip install torch transformers sentence-transformers pillow

Usage: python check_transformers.py [CASE ...]   (after `npm run build`; all cases unless their names are given)
"""

import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
import transformers
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../..")
FIXTURES = os.path.join(ROOT, "test/fixtures")
PICTURE = os.path.join(FIXTURES, "tiny_preset/pictures/red_circle.png")
REAL = os.path.join(ROOT, "models/gemma3_270m")
QUESTION = "What is the capital of France?"
TEXTS = [QUESTION, "Once upon a time, there were 12 rivers"]
# KerasHub's place of a part of an image, and that of transformers.
PLACES = ("<img>", "<image_soft_token>")


def cases(root):
    text, tiny = os.path.join(FIXTURES, "gguf/text"), os.path.join(ROOT, "presets/gemma3_tiny")
    listed = [
        ("text", text, {}, {}),
        ("text, float32, shards", text, {"dtype": "float32", "shardSize": 50_000}, {}),
        ("text, float16", text, {"dtype": "float16"}, {}),
        ("vision", tiny, {}, {"picture": PICTURE}),
        ("vision, float32, shards", tiny, {"dtype": "float32", "shardSize": 500_000}, {"picture": PICTURE}),
        ("embedder", os.path.join(FIXTURES, "embedder/embedding_model"), {}, {"embedder": True}),
    ]
    if os.path.exists(os.path.join(REAL, "model.weights.h5")):
        listed.append(("the real 270M, shards", REAL, {"shardSize": 200_000_000}, {}))
    for i, (name, load, options, more) in enumerate(listed):
        yield {
            "name": name, "load": load, "folder": os.path.join(root, str(i)), "options": options, "texts": TEXTS,
            "question": QUESTION, "tokens": 12, **more,
        }  # fmt: skip


class Comparison:
    def __init__(self):
        self.problems, self.notes = [], []

    def same(self, what, found, expected):
        if found != expected:
            self.problems.append(f"{what}: {str(found)[:200]}, expected {str(expected)[:200]}")

    def near(self, what, found, expected, tolerance):
        found, expected = np.asarray(found, "float64").ravel(), np.asarray(expected, "float64").ravel()
        if found.shape != expected.shape:
            self.problems.append(f"{what} has {found.size} values, expected {expected.size}")
            return
        off = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)
        self.notes.append(f"{what} within {off:.1e}")
        if not off < tolerance:
            self.problems.append(f"{what} differs by {off}")


def decoded(tokenizer, tokens):
    return tokenizer.decode(tokens, skip_special_tokens=True)


def generate(model, inputs, count):
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=count, do_sample=False)
    return out[0, inputs["input_ids"].shape[1] :].tolist()


def language(case, expected, check):
    folder, vision = case["folder"], "picture" in case
    kind = transformers.AutoModelForImageTextToText if vision else transformers.AutoModelForCausalLM
    model, info = kind.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    model.eval()
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        check.same(key, sorted(info[key]), [])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": QUESTION}]
    for text, ours in zip(TEXTS, expected["prompts"], strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        check.same(f"ids of {text!r}", inputs["input_ids"][0].tolist(), ours["ids"])
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1]
        check.near("logits", logits, ours["logits"], 1e-4)
        new = generate(model, {key: inputs[key] for key in ("input_ids", "attention_mask")}, case["tokens"])
        check.same(f"text after {text!r}", decoded(tokenizer, new), ours["generated"])
    chat = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    check.same("conversation", chat, tokenizer.bos_token + expected["chat"])
    inputs = tokenizer(chat, add_special_tokens=False, return_tensors="pt")
    new = generate(model, {key: inputs[key] for key in ("input_ids", "attention_mask")}, case["tokens"])
    check.same("answer", decoded(tokenizer, new).strip(), expected["answer"].strip())
    if vision:
        picture(case, expected["picture"], model, tokenizer, check)


def picture(case, expected, model, tokenizer, check):
    processor = transformers.AutoProcessor.from_pretrained(case["folder"])
    image = Image.open(case["picture"]).convert("RGB")
    content = [{"type": "image", "image": image}, {"type": "text", "text": QUESTION}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    ours, theirs = (tokenizer.convert_tokens_to_ids(place) for place in PLACES)
    ids = [ours if token == theirs else token for token in inputs["input_ids"][0].tolist()]
    check.same("ids with a picture", ids, expected["ids"])
    pixels = inputs["pixel_values"].permute(0, 2, 3, 1).numpy()
    # The rest is padding.
    check.near("pixels", pixels, expected["images"][: pixels.size], 1e-6)
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1]
    check.near("logits of a picture", logits, expected["logits"], 1e-4)
    new = generate(model, inputs, case["tokens"])
    check.same("answer to a picture", decoded(tokenizer, new).strip(), expected["answer"].strip())


def embedder(case, expected, check):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(case["folder"], device="cpu")
    check.near("embeddings", model.encode(TEXTS), expected["vectors"], 1e-5)


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        wanted = sys.argv[1:]
        listed = [case for case in cases(root) if not wanted or case["name"] in wanted]
        path = os.path.join(root, "cases.json")
        with open(path, "w") as file:
            json.dump(listed, file)
        node = ["node", os.path.join(HERE, "check_transformers.mjs"), path]
        results = json.loads(subprocess.run(node, stdout=subprocess.PIPE, check=True).stdout)
        for case, expected in zip(listed, results, strict=True):
            check = Comparison()
            (embedder if case.get("embedder") else language)(case, expected, check)
            failed += bool(check.problems)
            print(f"{'DIFFERENT' if check.problems else 'same'}: {case['name']}: {', '.join(check.notes)}")
            for problem in check.problems:
                print(f"  {problem}")
    print(f"{failed} differ; transformers {transformers.__version__}, torch {torch.__version__}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
