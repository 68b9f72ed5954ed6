"""Writes what KerasHub generates from images, greedily and in float32.

    python test/reference/make_vision_generation_fixtures.py [names of models, "uneven" or "tiny"]

- test/fixtures/vision_generation: tiny random presets with a vision encoder, and the results of `generate_step` for
  token ids and random images.
- test/fixtures/vision_generation/small_images/uneven.json: prompts of which some end with an image.
- test/fixtures/tiny_preset/pictures, batches.json: PNG files, drawn like the training pictures of presets/gemma3_tiny,
  and its answers to batches of prompts with different numbers of images.

Where KerasHub's code contradicts its documentation, the fixtures follow the documentation, as in
make_backbone_fixtures.py.
"""

import json
import os
import shutil
import sys

import numpy as np
from make_backbone_fixtures import BASE, GEMMA, follow_documentation, numbers

import keras
import keras_hub
import tensorflow as tf

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(HERE, "..", "fixtures", "vision_generation")
TINY = os.path.join(HERE, "..", "fixtures", "tiny_preset")
sys.path.insert(0, os.path.join(ROOT, "scripts", "tiny_preset"))
import check
import data

# === Random models ===

ENCODER = dict(num_heads=2, hidden_dim=8, num_layers=2, intermediate_dim=12, output_dim=8)
WINDOW = dict(num_layers=7, use_sliding_window_attention=True)
# name: (backbone, vision encoder, prompts as lists of "image" and numbers of text tokens)
MODELS = {
    "small_images": (
        dict(**GEMMA, **WINDOW, sliding_window_size=6),
        dict(**ENCODER, image_size=8, patch_size=4, pool_size=1),
        [[2, "image", 3], [1, "image", 1, "image", 2], [5], [1, "image", "image", 1]],
    ),
    "larger_than_the_window": (
        dict(**GEMMA, **WINDOW, sliding_window_size=4, attention_logit_soft_cap=3.0),
        dict(**ENCODER, image_size=12, patch_size=2, pool_size=2),
        [[3, "image", 4], [2]],
    ),
    "no_window": (
        dict(**GEMMA, num_query_heads=4, num_key_value_heads=2, final_logit_soft_cap=5.0),
        dict(**ENCODER, image_size=8, patch_size=4, pool_size=2),
        [[1, "image", 1, "image", 1]],
    ),
}
LENGTH = 30


def random_inputs(rng, backbone, prompts):
    """Inputs of the model for prompts of random tokens and images."""
    tokens, size = backbone.num_vision_tokens_per_image, backbone.image_size
    places = max(prompt.count("image") for prompt in prompts)
    shape = (len(prompts), LENGTH)
    ids, keep, mask = np.zeros(shape, "int32"), np.zeros(shape, bool), np.zeros(shape, bool)
    indices = np.zeros((len(prompts), places * tokens), "int32")
    for row, prompt in enumerate(prompts):
        at, found = 0, []
        for part in prompt:
            count = tokens if part == "image" else part
            ids[row, at : at + count] = rng.integers(1, backbone.vocabulary_size, count)
            if part == "image":
                mask[row, at : at + count] = True
                found += range(at, at + count)
            at += count
        keep[row, :at] = True
        indices[row, : len(found)] = found
    images = rng.uniform(-1, 1, (len(prompts), places, size, size, 3)).astype("float32")
    return {
        "token_ids": ids, "padding_mask": keep, "images": images, "vision_indices": indices, "vision_mask": mask,
    }


def make_model(name, seed, config, encoder, prompts):
    rng = np.random.default_rng(seed)
    keras.backend.clear_session()
    vision = {"image_size": encoder["image_size"], "vision_encoder": keras_hub.models.Gemma3VisionEncoder(**encoder)}
    backbone = keras_hub.models.Gemma3Backbone(**{**BASE, **config, **vision})
    for w in backbone.weights:
        # Small embeddings: a model with large ones repeats its last token.
        scale = 0.1 if "embeddings" in w.path else 0.3 if len(w.shape) < 2 else 1.0 / np.sqrt(np.prod(w.shape[:-1]))
        w.assign(("gamma" in w.path) + rng.normal(size=w.shape) * scale)
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    backbone.save_to_preset(folder)
    backbone = keras_hub.models.Gemma3Backbone.from_preset(os.path.abspath(folder), dtype="float32")
    follow_documentation(backbone)

    inputs = random_inputs(rng, backbone, prompts)
    ids, images = inputs["token_ids"], inputs["images"]
    lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=backbone)
    lm.compile(sampler="greedy")
    runs = []
    for stop in (None, [1, 2, int(ids.max())]):
        out = lm.generate_step({key: tf.constant(value) for key, value in inputs.items()}, stop_token_ids=stop)
        runs.append({
            "stop_token_ids": stop,
            "token_ids": np.asarray(out["token_ids"]).tolist(),
            "padding_mask": np.asarray(out["padding_mask"]).astype("int32").tolist(),
        })
    expected = {key: np.asarray(value).astype("int32").tolist() for key, value in inputs.items() if key != "images"}
    expected["images"] = {"shape": images.shape, "values": numbers(images)}
    with open(os.path.join(folder, "expected.json"), "w") as file:
        json.dump({**expected, "runs": runs}, file)
    print(name, runs[0]["token_ids"])


# === Prompts that end with an image ===

# Each step of KerasHub starts from the last token of the prompt, embedded as text, and so do steps through the tokens of
# longer prompts. Keys and values stay those of the image, so only a prompt that ends with an image is continued
# differently: from a token of text that nobody wrote.
UNEVEN = [[2], [1, "image", 2], [1, "image"], [5, "image", 3], [2, "image", 1, "image", 1]]


def without_cache(lm, inputs, steps):
    """The first tokens of the greedy continuations, each by a pass over the whole texts, in which images stay images."""
    inputs = {key: np.array(value) for key, value in inputs.items()}
    rows, new = np.arange(len(UNEVEN)), []
    for _ in range(steps):
        ends = inputs["padding_mask"].sum(1)
        new.append(np.argmax(np.asarray(lm(inputs))[rows, ends - 1], -1))
        inputs["token_ids"][rows, ends] = new[-1]
        inputs["padding_mask"][rows, ends] = True
    return np.transpose(new).tolist()


def make_uneven():
    keras.backend.clear_session()
    folder = os.path.abspath(os.path.join(OUT, "small_images"))
    backbone = keras_hub.models.Gemma3Backbone.from_preset(folder, dtype="float32")
    follow_documentation(backbone)
    inputs = random_inputs(np.random.default_rng(7), backbone, UNEVEN)
    lm = keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=backbone)
    lm.compile(sampler="greedy")
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    batch = np.asarray(lm.generate_step(dict(tensors), stop_token_ids=None)["token_ids"]).tolist()
    whole = without_cache(lm, inputs, 8)
    starts = inputs["padding_mask"].sum(1)
    generated = [row[start : start + 8] for row, start in zip(batch, starts)]
    for prompt, found, right in zip(UNEVEN, generated, whole):
        print(prompt, found, right)
        assert (found == right) == (prompt[-1] != "image"), prompt
    expected = {key: np.asarray(value).astype("int32").tolist() for key, value in inputs.items() if key != "images"}
    expected["images"] = {"shape": inputs["images"].shape, "values": numbers(inputs["images"])}
    expected.update(ends_with_image=[prompt[-1] == "image" for prompt in UNEVEN], generated=generated, without_cache=whole)
    with open(os.path.join(folder, "uneven.json"), "w") as file:
        json.dump(expected, file)


# === The tiny preset ===

ONE, TWO = "What is in this image? <start_of_image>", "What is in these images? <start_of_image><start_of_image>"
CHAT = data.chat_prompt("<start_of_image>\nWhich colour is it?")
TEXT = "What is the capital of France?"
PICTURES = {
    "red_circle": ("circle", (255, 4, 0), (110, 110, 110), 64, 64, 40.8, 30.7, 20.4),
    "blue_square": ("square", (11, 6, 252), (255, 255, 255), 96, 96, 50.0, 47.3, 31.0),
    "green_triangle": ("triangle", (30, 170, 60), (0, 0, 0), 128, 128, 60.0, 66.0, 50.0),
    "yellow_ring": ("ring", (250, 220, 30), (20, 20, 20), 64, 64, 32.0, 30.0, 22.0),
    "wide_pink_diamond": ("diamond", (255, 105, 180), (0, 0, 0), 90, 70, 45.0, 35.0, 25.0),
}
BATCHES = [
    (ONE, ["red_circle"]),
    ("What is in the picture? <start_of_image>", ["blue_square"]),
    ("<start_of_image>What is in the picture?", ["blue_square"]),
    (TWO, ["green_triangle", "yellow_ring"]),
    ([ONE, ONE], [["blue_square"], ["blue_square"]]),
    ([ONE, TWO, TEXT, CHAT], [["yellow_ring"], ["red_circle", "yellow_ring"], [], ["red_circle"]]),
    ([TEXT, ONE], [[], ["wide_pink_diamond"]]),
    ([TEXT, "Hello!"], None),
    (TEXT, None),
    (ONE, None),
]


def make_tiny():
    folder = os.path.join(TINY, "pictures")
    os.makedirs(folder, exist_ok=True)
    pixels = {}
    for name, picture in PICTURES.items():
        pixels[name] = data.draw(*picture)
        with open(os.path.join(folder, f"{name}.png"), "wb") as file:
            file.write(tf.io.encode_png(pixels[name], compression=9).numpy())
    model = check.load(os.path.join(ROOT, "presets", "gemma3_tiny"))
    model.compile(sampler="greedy")
    load = lambda images: [load(image) if isinstance(image, list) else pixels[image] for image in images]
    cases = []
    for prompts, images in BATCHES:
        inputs = {"prompts": prompts} if images is None else {"prompts": prompts, "images": load(images)}
        text = model.generate(inputs, max_length=128)
        cases.append({"prompts": prompts, "images": images, "texts": text})
        print(text)
    lines = ",\n".join("    " + json.dumps(case) for case in cases)
    with open(os.path.join(TINY, "batches.json"), "w") as file:
        file.write(f'{{\n  "max_length": 128,\n  "cases": [\n{lines}\n  ]\n}}\n')


if __name__ == "__main__":
    only = sys.argv[1:]
    for seed, (name, case) in enumerate(MODELS.items()):
        if not only or name in only:
            make_model(name, seed, *case)
    if not only or "uneven" in only:
        make_uneven()
    if not only or "tiny" in only:
        make_tiny()
