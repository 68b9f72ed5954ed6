"""Asks a saved preset, in float32, every question it was trained on, and about new pictures.

    python check.py ../../presets/gemma3_tiny
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import sys

import keras_hub
import numpy as np
import tensorflow as tf

import data

SEED = 1234
FILES = [
    "assets/tokenizer/vocabulary.spm",
    "config.json",
    "image_converter.json",
    "metadata.json",
    "model.weights.h5",
    "preprocessor.json",
    "task.json",
    "tokenizer.json",
]
LIMIT = 6_000_000


def load(path):
    return keras_hub.models.Gemma3CausalLM.from_preset(
        os.path.abspath(path), dtype="float32"
    )


def generate(model, prompts, images=None, max_length=96, batch_size=128):
    """Generates greedily; `images` is uint8 [prompts, count, height, width, 3]."""
    model.compile(sampler="greedy")
    texts = []
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        pad = batch_size - len(part) if start else 0
        inputs = part + part[:1] * pad
        if images is not None:
            batch = images[start : start + batch_size]
            batch = np.concatenate([batch] + [batch[:1]] * pad)
            inputs = {"prompts": inputs, "images": tf.constant(batch, "float32")}
        texts += list(model.generate(inputs, max_length=max_length))[: len(part)]
    return texts


def check_texts(model, pairs):
    # Prompts of similar length together: a batch generates from the end of its
    # shortest prompt.
    pairs = sorted(pairs, key=lambda pair: len(pair[0]))
    texts = generate(model, [prompt for prompt, _ in pairs], max_length=96)
    return [
        (prompt, prompt + data.visible(answer), text)
        for (prompt, answer), text in zip(pairs, texts)
    ]


def check_images(model, count, each, rng):
    """Asks every kind of prompt about `each` new pictures of every colour and shape."""
    prompts, wanted, images = [], [], []
    for prompt, answer in data.image_prompts(count):
        for colour in data.COLOURS:
            for shape in data.SHAPES:
                for _ in range(each):
                    pictures = [data.random_picture(rng, shape, colour)]
                    pictures += [data.random_picture(rng) for _ in range(count - 1)]
                    prompts.append(prompt)
                    wanted.append(data.visible(answer(*pictures)))
                    images.append([data.render(picture) for picture in pictures])
    texts = generate(model, prompts, np.array(images), max_length=112)
    return [
        (prompt, answer, text[-len(answer) :] if text.endswith(answer) else text)
        for prompt, answer, text in zip(prompts, wanted, texts)
    ]


def report(name, results):
    wrong = [result for result in results if result[1] != result[2]]
    share = 1 - len(wrong) / len(results)
    print(f"{name}: {len(results) - len(wrong)} of {len(results)} right ({share:.2%})")
    for prompt, wanted, text in wrong[:12]:
        print(f"  {prompt!r}\n    wanted {wanted!r}\n    got    {text!r}")
    return share


def main(path):
    total = 0
    for name in FILES:
        size = os.path.getsize(os.path.join(path, name))
        total += size
        print(f"{size:>9,}  {name}")
    print(f"{total:>9,}  in total")
    found = sum(len(files) for _, _, files in os.walk(path))
    model = load(path)
    print(f"{model.count_params():,} parameters")
    pairs = data.all_questions(data.make_topics(data.load_facts()))
    rng = np.random.default_rng(SEED)
    good = total <= LIMIT and found == len(FILES)
    good &= report("training questions", check_texts(model, pairs)) >= 0.99
    good &= report("one new picture", check_images(model, 1, 1, rng)) >= 0.99
    # With two pictures an answer can fail in two places.
    good &= report("two new pictures", check_images(model, 2, 2, rng)) >= 0.97
    print("good" if good else "NOT GOOD")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
