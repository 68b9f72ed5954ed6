"""Records the greedy answers of Python KerasHub with presets/gemma3_tiny in float32.

    python test/reference/make_tiny_preset_answers.py [--check]

Writes test/fixtures/tiny_preset/{questions,images}.json, or with --check compares
them. Needs the packages of scripts/tiny_preset/requirements.txt. `text` is the
result of `Gemma3CausalLM.generate(prompt, max_length)`. A picture is given by the
parameters of `draw` in scripts/tiny_preset/data.py: a pixel has the colour of
the shape if its centre, at (x + 0.5, y + 0.5), is inside.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "scripts", "tiny_preset"))

import numpy as np
import tensorflow as tf

import check
import data

PRESET = os.path.join(ROOT, "presets", "gemma3_tiny")
TARGET = os.path.join(ROOT, "test", "fixtures", "tiny_preset")
MAX_LENGTH = 128


def write(name, content, check_only):
    """Writes a file, or compares it with the existing one; returns whether they agree."""
    cases = content.pop("cases")
    head = json.dumps(content, indent=2)[:-2]
    lines = ",\n".join("    " + json.dumps(case) for case in cases)
    text = f'{head},\n  "cases": [\n{lines}\n  ]\n}}\n'
    path = os.path.join(TARGET, name)
    if check_only:
        with open(path, encoding="utf-8") as file:
            return file.read() == text
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return True


def text_cases():
    """Returns a list of (prompt, trained answer)."""
    pairs = data.all_questions(data.make_topics(data.load_facts()))
    chosen = [
        "What is the capital of France?",
        "Which continent is Japan in?",
        "What is the currency of the United Kingdom?",
        "Which country has the capital Nairobi?",
        "What is the official language of Brazil?",
        "The capital of Italy is",
        data.chat_prompt("What is the capital of France?"),
        data.chat_prompt("Who are you?"),
        data.chat_prompt("Hello!"),
        "Hello!",
        "Who are you?",
    ]
    answers = dict(pairs)
    # Also every 131st question: all kinds of questions, countries over the
    # whole alphabet, raw and as a chat.
    chosen += [prompt for prompt, _ in pairs[::131] if prompt not in chosen]
    cases = [(prompt, answers[prompt]) for prompt in chosen]
    # A chat whose second question is beyond the sliding window of the first.
    history = [("What is the capital of Norway?", "The capital of Norway is Oslo.")]
    question = "What is the currency of Japan?"
    cases.append(
        (
            data.chat_prompt(question, history),
            answers[data.chat_prompt(question)],
        )
    )
    return cases


def image_cases():
    """Returns a list of (prompt, pictures, trained answer)."""
    rng = np.random.default_rng(42)
    one, two = data.image_prompts(1), data.image_prompts(2)
    cases, i = [], 0
    for shape in data.SHAPES:
        for colour in data.COLOURS:
            # The first prompt is "What is in this image? <start_of_image>".
            prompt, answer = one[0] if i % 2 == 0 else one[i % len(one)]
            size = [64, 64, 64, 96, 128][i % 5]
            picture = data.random_picture(rng, shape, colour, size)
            cases.append((prompt, [picture], answer(picture)))
            i += 1
    for prompt, answer in two:
        pictures = [data.random_picture(rng) for _ in range(2)]
        cases.append((prompt, pictures, answer(*pictures)))
    return cases


def main():
    check_only = "--check" in sys.argv[1:]
    os.makedirs(TARGET, exist_ok=True)
    model = check.load(PRESET)
    model.compile(sampler="greedy")
    head = {"preset": "gemma3_tiny", "dtype": "float32", "max_length": MAX_LENGTH}
    wrong = 0

    cases = []
    for prompt, answer in text_cases():
        answer = data.visible(answer)
        text = model.generate(prompt, max_length=MAX_LENGTH)
        if text != prompt + answer:
            wrong += 1
            print(f"Expected {answer!r}. Received: {text!r}.")
        cases.append({"prompt": prompt, "text": text})
    same = write("questions.json", {**head, "cases": cases}, check_only)
    print(f"{len(cases)} questions")

    cases = []
    for prompt, pictures, answer in image_cases():
        answer = data.visible(answer)
        images = np.stack([data.render(picture) for picture in pictures])
        images = tf.constant(images[None], "float32")
        inputs = {"prompts": [prompt], "images": images}
        text = model.generate(inputs, max_length=MAX_LENGTH)[0]
        if not text.endswith(answer):
            wrong += 1
            print(f"Expected {answer!r}. Received: {text!r}.")
        cases.append({"prompt": prompt, "pictures": pictures, "text": text})
    same &= write("images.json", {**head, "cases": cases}, check_only)
    print(f"{len(cases)} image questions")
    print(f"{wrong} answered differently than trained")
    if not same:
        sys.exit("KerasHub's answers differ from test/fixtures/tiny_preset: recreate the files.")


if __name__ == "__main__":
    main()
