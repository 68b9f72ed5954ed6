"""Check that LoRA weights trained with the packed package on the real Gemma 3 270M compute the same in Python KerasHub.

Packs `dist`, installs the package in an empty folder, and trains there to turn names into e-mail addresses: with the
program from docs/fine_tune.md, and with `gemma3 finetune` over weights stored as bfloat16 and as int8. For each LoRA
file, KerasHub, which loads the model in float32,
  - must train the same number of weights, and have hidden states within 1e-4 of the largest, merged here or not;
  - must have the validation loss that the command reported (roughly, for int8), which must be lower than before;
  - must continue two prompts with the same greedy text as `gemma3 generate --lora`, for the files of the command.
Prints one line per file and exits with 1 on any difference.

Usage: python check_real_lora.py   (after `npm run build` and `npm run fetch:270m`; needs the npm registry)
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_saved_presets import HERE, TOLERANCE, Check, distance, hidden_states, run_node

ROOT = os.path.abspath(os.path.join(HERE, "../.."))
PRESET = os.path.abspath(os.environ.get("GEMMA3_270M", os.path.join(ROOT, "models/gemma3_270m")))
RANK = 4
# Length of the examples and of generated texts.
LENGTH = 32
# Stored format of the weights: epochs, and how far the validation loss may be from KerasHub's. With int8 the model is
# slightly different.
RUNS = {"bfloat16": (2, 1e-4), "int8": (1, 0.05)}

FIRST = "Ada Grace Alan Linus Margaret Edsger Donald Dennis Guido James Anders Frances".split()
LAST = "Lovelace Hopper Turing Torvalds Hamilton Dijkstra Knuth Ritchie Rossum Gosling Hejlsberg Allen".split()
HELD_OUT = [("Barbara", "Jones"), ("Radia", "Hopper")]
HOSTS = ["example.org", "mail.net", "acme.com", "post.io", "uni.edu"]


def examples(names):
    hosts = [HOSTS[i % len(HOSTS)] for i in range(len(names))]
    return [
        {"prompt": f"{first} {last}, {host} ->", "response": f" {first.lower()}.{last.lower()}@{host}"}
        for (first, last), host in zip(names, hosts)
    ]


def guide_program():
    """The example of docs/fine_tune.md, which is valid JavaScript."""
    with open(os.path.join(ROOT, "docs", "fine_tune.md"), encoding="utf-8") as f:
        return re.search(r"^## LoRA\n.*?^```ts\n(.*?)^```$", f.read(), re.M | re.S).group(1)


class Consumer:
    """A folder with the installed package and the preset."""

    def __init__(self, folder):
        self.folder = folder
        subprocess.run(["node", os.path.join(ROOT, "test/package/install.mjs"), folder], check=True)
        os.symlink(PRESET, self.at("gemma3_270m"))
        # They import ../../dist: here, that of the installed package.
        steps = self.at("node_modules/tfjs-gemma3/test/reference")
        os.makedirs(steps)
        for name in ("lora_steps.mjs", "hidden_states.mjs"):
            shutil.copy(os.path.join(HERE, name), steps)
        self.steps = os.path.join(steps, "lora_steps.mjs")

    def at(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.at(name), "w", encoding="utf-8") as f:
            f.write(text)

    def output(self, *command):
        return subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, check=True, text=True).stdout

    def gemma3(self, command, *args):
        return self.output("npx", "--no", "--", "gemma3", command, "--preset", "./gemma3_270m", *args)


def train(consumer, held_out):
    """LoRA files by the program that trained them, with the validation loss if it was reported, and its tolerance."""
    for name, rows in (("emails.jsonl", examples(list(zip(FIRST, LAST)))), ("held_out.jsonl", held_out)):
        consumer.write(name, "".join(json.dumps(row) + "\n" for row in rows))
    consumer.write("program.mjs", guide_program())
    consumer.output("node", "program.mjs")
    files = {"the program of docs/fine_tune.md": ("emails.lora.h5", None, None)}
    for dtype, (epochs, tolerance) in RUNS.items():
        output = f"{dtype}.lora.h5"
        data = ["--data", "emails.jsonl", "--validation", "held_out.jsonl", "--output", output]
        size = ["--epochs", str(epochs), "--learning-rate", "2e-3", "--max-length", str(LENGTH), "--rank", str(RANK)]
        report = json.loads(consumer.gemma3("finetune", *data, *size, "--dtype", dtype, "--json"))
        files[f"gemma3 finetune over {dtype}"] = (output, report["epochs"][-1]["validationLoss"], tolerance)
    return files


def main():
    import keras
    import keras_hub

    check = Check()
    held_out = examples(HELD_OUT)
    prompts = [row["prompt"] for row in held_out]
    with tempfile.TemporaryDirectory() as root:
        consumer = Consumer(root)
        files = train(consumer, held_out)

        lm = keras_hub.models.Gemma3CausalLM.from_preset(PRESET, dtype="float32")
        lm.compile(sampler="greedy")
        # Has no effect until a file is loaded.
        lm.backbone.enable_lora(RANK)
        data = {key: [row[key[:-1]] for row in held_out] for key in ("prompts", "responses")}
        x, y, sample_weight = lm.preprocessor(data, sequence_length=LENGTH)
        inputs = {key: np.array(x[key]).tolist() for key in ("token_ids", "padding_mask")}
        mean = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")

        def loss_of(hidden):
            hidden = hidden.reshape(*np.shape(y), -1)
            return float(mean(y, lm.backbone.token_embedding(hidden, reverse=True), sample_weight))

        before = loss_of(hidden_states(lm.backbone, inputs))
        float32 = {"preset": PRESET, "options": {"dtype": "float32"}, "inputs": inputs}
        steps = [{**float32, "load": consumer.at(path)} for path, _, _ in files.values()]
        results = run_node(steps, root, consumer.steps)

        for (name, (path, loss, tolerance)), result in zip(files.items(), results):
            lm.backbone.load_lora_weights(consumer.at(path))
            counts = [len(lm.backbone.trainable_weights), len(lm.backbone.non_trainable_weights)]
            problems = [] if result["trainable"] == counts else [f"weights: {result['trainable']} here, {counts} there"]

            there = hidden_states(lm.backbone, inputs)
            off = max(distance(there, result[kind]) for kind in ("hidden", "merged")) / float(np.max(np.abs(there)))
            if not off < TOLERANCE:
                problems.append(f"hidden states differ by {off} of the largest")

            after = loss_of(there)
            if not after < before:
                problems.append(f"nothing was learnt: the loss is {after}, and was {before} before")
            reported = ""
            if loss is not None:
                if not abs(after - loss) < tolerance:
                    problems.append(f"loss {loss} here, {after} in KerasHub")
                options = ["--lora", path, "--dtype", "float32", "--max-length", str(LENGTH)]
                ours = [consumer.gemma3("generate", *options, prompt).removesuffix("\n") for prompt in prompts]
                texts = lm.generate(prompts, max_length=LENGTH)
                problems += [f"{a!r} here, {b!r} in KerasHub" for a, b in zip(ours, texts) if a != b]
                reported = f" ({loss:.5f} here), {len(texts)} texts, first {texts[0]!r}"
            detail = f"{counts[0]} trained, hidden states within {off:.1e}, loss {before:.5f} -> {after:.5f}{reported}"
            check.report(name, detail, problems)
    print(
        f"{len(files)} files, {len(prompts)} prompts, {check.failed} differ; "
        f"KerasHub {keras_hub.__version__}, Keras {keras.__version__}"
    )
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
