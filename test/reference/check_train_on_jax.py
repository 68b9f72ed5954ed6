"""Check that a preset and LoRA from here train on many devices in KerasHub on JAX, and come back.

`examples/elsewhere/train_on_jax.py` continues LoRA that this package wrote, on a preset that it wrote, on eight
virtual devices of the CPU (two that divide batches, four that divide the model) and on one:
  - a device of the eight must hold less than a third of the weights;
  - the losses of all steps must agree within 1e-5, and hidden states, with an image if the model takes images, within
    1e-4;
  - the `.lora.h5` and the preset that the eight devices wrote must have KerasHub's hidden states here, within 1e-4 of
    the largest.
Prints one line per comparison and exits with 1 on any difference.

Usage: python check_train_on_jax.py [PRESET]   (after `npm run build`; the packaged preset unless one is given)
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../../examples/elsewhere")]
import train_on_jax
from check_saved_presets import TINY, TOLERANCE, Check, distance, hidden_states, inputs_of, run_node

MESH = "2x4"
EXAMPLES = [
    ("What is the capital of France?", " Paris!"),
    ("What is the capital of Italy?", " Rome!"),
    ("What is the capital of Spain?", " Madrid!"),
    ("What is the capital of Peru?", " Lima!"),
    ("What is the capital of Japan?", " Tokyo!"),
]


def train(arguments, lora, inputs):
    """Trains in this process. Returns the report of the program, and hidden states with the LoRA that it wrote."""
    import keras_hub

    output = io.StringIO()
    sys.argv = ["train_on_jax.py", *arguments]
    with contextlib.redirect_stdout(output):
        train_on_jax.main()
    report = json.loads(output.getvalue())
    preset = arguments[arguments.index("--preset") + 1]
    backbone = keras_hub.models.Gemma3Backbone.from_preset(preset, dtype="float32")
    backbone.load_lora_weights(lora)
    return {**report, "hidden": hidden_states(backbone, inputs).tolist()}


def train_on_devices(job, folder):
    """The same on eight devices, which takes another process."""
    path, answer = os.path.join(folder, "job.json"), os.path.join(folder, "answer.json")
    with open(path, "w") as file:
        json.dump({**job, "answer": answer}, file)
    flags = "--xla_force_host_platform_device_count=8"
    subprocess.run([sys.executable, __file__, "--job", path], env={**os.environ, "XLA_FLAGS": flags}, check=True)
    with open(answer) as file:
        return json.load(file)


def run_job(path):
    with open(path) as file:
        job = json.load(file)
    answer = train(job["arguments"], job["lora"], job["inputs"])
    with open(job["answer"], "w") as file:
        json.dump(answer, file)


def main(source):
    check = Check()
    with tempfile.TemporaryDirectory() as root:
        at = lambda name: os.path.join(root, name)
        preset, start, data = at("preset"), at("start.lora.h5"), at("data.jsonl")
        with open(data, "w") as file:
            file.writelines(json.dumps({"prompt": a, "response": b}) + "\n" for a, b in EXAMPLES)
        save = {"load": source, "save": preset, "prompts": [EXAMPLES[0][0]], "maxLength": 12}
        run_node([{**save, "saveOptions": {"dtype": "float32"}}], root)
        # Small numbers: a model that larger ones destroy multiplies rounding errors from step to step.
        enable = {"rank": 4, "deviation": 0.05}
        run_node([{"preset": preset, "enable": enable, "saveLora": start}], root, "lora_steps.mjs")
        with open(os.path.join(preset, "config.json")) as file:
            config = json.load(file)["config"]
        vision = config["vision_encoder"]
        inputs = inputs_of({**config, "vision_encoder": vision and vision["config"]}, np.random.default_rng(3))

        def arguments(output, *more):
            run = ["--preset", preset, "--data", data, "--lora", start, "--output", output, "--dtype", "float32"]
            return [*run, "--epochs", "4", "--batch-size", "8", "--max-length", "32", "--json", *more]

        eight, merged, one = at("eight.lora.h5"), at("merged"), at("one.lora.h5")
        job = {"arguments": arguments(eight, "--mesh", MESH, "--output-preset", merged), "lora": eight}
        there = train_on_devices({**job, "inputs": inputs}, root)
        alone = train(arguments(one), one, inputs)

        share = there["bytesPerDevice"] / there["bytes"]
        problems = [] if there["devices"] == 8 and share < 1 / 3 else ["the model is not divided"]
        check.report("weights", f"{share:.3f} of {there['bytes']:,} bytes on each of 8 devices", problems)
        off = distance(there["losses"], alone["losses"])
        falls = there["losses"][-1] < there["losses"][0]
        problems = ([] if off <= 1e-5 else [f"losses differ by {off}"]) + ([] if falls else ["nothing was learnt"])
        losses = f"{there['losses'][0]:.6f} -> {there['losses'][-1]:.6f}"
        check.report("losses", f"{len(there['losses'])} steps, {losses}, within {off:.1e} of one device", problems)
        largest = max(1.0, float(np.max(np.abs(alone["hidden"]))))
        off = distance(there["hidden"], alone["hidden"]) / largest
        problems = [] if off < TOLERANCE else [f"hidden states differ by {off} of the largest"]
        check.report("hidden states", f"8 devices within {off:.1e} of one", problems)

        float32 = {"options": {"dtype": "float32"}, "inputs": inputs}
        (lora,) = run_node([{**float32, "preset": preset, "load": eight}], root, "lora_steps.mjs")
        (whole,) = run_node([{**float32, "load": merged}], root)
        for name, result in (("the .lora.h5", lora), ("the preset", whole)):
            off = distance(result["hidden"], there["hidden"]) / largest
            problems = [] if off < TOLERANCE else [f"hidden states differ by {off} of the largest"]
            check.report(f"{name} of 8 devices, here", f"hidden states within {off:.1e} of KerasHub's", problems)
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        run_job(sys.argv[2])
    else:
        main(os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else TINY)
