"""Writes test/fixtures/preprocessor.json: what KerasHub's Gemma3CausalLMPreprocessor makes of text.

    python test/reference/make_preprocessor_fixtures.py

Where KerasHub's code contradicts its documentation, the fixtures follow the documentation: `add_start_token=False`
also omits the start token from prompts for generation (KerasHub's `generate_preprocess` always adds it).
"""

import json
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras_hub
import numpy as np

HERE = os.path.dirname(__file__)
FIXTURES = os.path.join(HERE, "..", "fixtures")
LONG = "the quick brown fox jumps over the lazy dog " * 3

PAIRS = [
    ("What is the capital of India?", "New Delhi"),
    (["What is the capital of India?", "Hi"], ["New Delhi", "Hello there, how are you?"]),
    ("", ""),
    ("prompt", ""),
    ("", "response"),
    (LONG, "short"),
    ("short", LONG),
    ([LONG, "a", LONG], ["b", LONG, LONG]),
    ("naïve café 🙂\n\n  two", "ünïcödé <start_of_turn>user"),
]
PROMPTS = ["Hi", ["Hi", LONG, "", "a b c"], LONG, "<start_of_turn>user\nHi<end_of_turn>\n"]


def plain(x):
    return np.asarray(x).astype("int32").tolist()


def main():
    proto = os.path.join(FIXTURES, "tokenizer", "vocabulary.spm")
    cases = []
    for start, end in ((True, True), (False, True), (True, False), (False, False)):
        tokenizer = keras_hub.models.Gemma3Tokenizer(proto=proto, has_vision_tokens=True)
        pre = keras_hub.models.Gemma3CausalLMPreprocessor(
            tokenizer=tokenizer, sequence_length=24, add_start_token=start, add_end_token=end
        )
        for prompts, responses in PAIRS:
            for length in (None, 7, 2):
                x, y, w = pre({"prompts": prompts, "responses": responses}, sequence_length=length)
                cases.append({
                    "kind": "call", "addStartToken": start, "addEndToken": end, "sequenceLength": length,
                    "prompts": prompts, "responses": responses,
                    "token_ids": plain(x["token_ids"]), "padding_mask": plain(x["padding_mask"]),
                    "y": plain(y), "sampleWeight": plain(w),
                })
        if not end:
            continue
        for prompts in PROMPTS:
            for length in (None, 6, 200):
                if start:
                    x = pre.generate_preprocess(prompts, sequence_length=length)
                else:
                    packer = pre.packer
                    batch = [prompts] if isinstance(prompts, str) else prompts
                    ids, _ = packer(
                        (tokenizer(batch),), sequence_length=length, add_end_value=False, add_start_value=False
                    )
                    ids = np.asarray(ids)
                    ids = ids[0] if isinstance(prompts, str) else ids
                    x = {"token_ids": ids, "padding_mask": ids != tokenizer.pad_token_id}
                text = pre.generate_postprocess({k: np.asarray(v) for k, v in x.items()})
                text = text if isinstance(text, (str, list)) else np.asarray(text).tolist()
                cases.append({
                    "kind": "generate", "addStartToken": start, "sequenceLength": length, "prompts": prompts,
                    "token_ids": plain(x["token_ids"]), "padding_mask": plain(x["padding_mask"]), "text": text,
                })
    with open(os.path.join(FIXTURES, "preprocessor.json"), "w") as f:
        json.dump(cases, f)
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
