"""Writes test/fixtures/prompt_images.json: what KerasHub's Gemma3CausalLMPreprocessor makes of text and images.

    python test/reference/make_prompt_image_fixtures.py

An image is given as [height, width, dtype] and drawn as in make_image_fixtures.py. All images of a batch have the same
size: KerasHub pads smaller ones with black before it resizes them.
"""

import json
import os

import numpy as np
from make_image_fixtures import GEMMA, Converter, picture

import keras_hub

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "fixtures")
S = "<start_of_image>"
LONG = "the quick brown fox jumps over the lazy dog " * 3
U, F = (6, 9, "uint8"), (6, 9, "float32")
# prompts, responses, images
CASES = [
    ("What is the capital of India?", "New Delhi", None),
    (["What is the capital of India?", "Hi"], ["New Delhi", "Hello there, how are you?"], None),
    (f"this is a lily {S}", "pristine!", U),
    (f"this is a lily {S}", "pristine!", [U]),
    (f"lily: {S}, sunflower: {S}", "pristine!", [U, U]),
    ([f"this is a lily: {S}", f"this is a sunflower: {S}"], ["pristine!", "radiant!"], [F, F]),
    ([f"this is a lily: {S}", f"this is a sunflower: {S}"], ["pristine!", "radiant!"], [[U], [U]]),
    ([f"Who is it: {S}?", f"Who are these {S}, {S}?"], ["Arijit Singh", "John, Paul"], [[F], [F, F]]),
    ([f"{S}{S} a", f"{S}", "What?", LONG], ["b", "c", "d", LONG], [[U, U], [U], [], []]),
    (f"a {S}", "b", None),
    ([f"a {S}", "c"], ["b", "d"], None),
    (f"{LONG}{S}", LONG, U),
    (f"{S}{S}", LONG, [(2, 2, "uint8"), (2, 2, "uint8")]),
]


def draw(images):
    if images is None:
        return None
    if isinstance(images, tuple):
        return picture(*images)
    return [draw(image) for image in images]


def plain(x):
    return np.asarray(x).astype("int32").tolist()


def numbers(x):
    return [float(f"{v:.7g}") for v in np.asarray(x).ravel()]


def outputs(x):
    images = np.asarray(x["images"])
    return {
        **{key: plain(x[key]) for key in ("token_ids", "padding_mask", "vision_indices", "vision_mask")},
        "images": {"shape": images.shape, "values": numbers(images)},
    }


def main():
    proto = os.path.join(FIXTURES, "tokenizer", "vocabulary.spm")
    pre = keras_hub.models.Gemma3CausalLMPreprocessor(
        tokenizer=keras_hub.models.Gemma3Tokenizer(proto=proto, has_vision_tokens=True),
        image_converter=Converter(image_size=(2, 3), **GEMMA),
        sequence_length=40,
        max_images_per_prompt=2,
        num_vision_tokens_per_image=3,
    )
    cases = []
    for prompts, responses, images in CASES:
        inputs = {"prompts": prompts} if images is None else {"prompts": prompts, "images": draw(images)}
        case = {"prompts": prompts, "responses": responses, "images": images}
        for length in (None, 9):
            x, y, weight = pre({**inputs, "responses": responses}, sequence_length=length)
            packed = {"x": outputs(x), "y": plain(y), "sampleWeight": plain(weight)}
            cases.append({"kind": "call", "sequenceLength": length, **case, **packed})
        length = 120 if LONG in str(prompts) else None
        x = pre.generate_preprocess(inputs, sequence_length=length)
        cases.append({"kind": "generate", "sequenceLength": length, **case, "x": outputs(x)})
    text = ",\n".join(json.dumps(case) for case in cases)
    with open(os.path.join(FIXTURES, "prompt_images.json"), "w") as file:
        file.write(f"[\n{text}\n]\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
