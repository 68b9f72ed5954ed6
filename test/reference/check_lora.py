"""Check that Python KerasHub and this package read each other's `.lora.h5`, and compute the same with it.

`lora_steps.mjs` in this folder runs the package in `dist`. For random models with and without vision, and several
ranks, targets and dtypes:
  - This package loads KerasHub's files: it trains the same number of weights, hidden states are within 1e-4, merged or
    not, and a merged preset saved here holds KerasHub's merged weights.
  - KerasHub loads the files saved here bit for bit, and its hidden states are within 1e-4, even for an alpha, which
    KerasHub does not store.
Prints one line per case and exits with 1 on any difference.

Usage: python check_lora.py   (after `npm run build`)
"""

import os
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_saved_presets import TEXT, TOLERANCE, VISION, Check, distance, hidden_states, inputs_of, run_node, variables

STEPS = "lora_steps.mjs"


def set_random(variable, rng, scale=0.3):
    variable.assign(rng.normal(0, scale, variable.shape))


def compare_files(a, b):
    """Compares all datasets of two files bit for bit, except `bias` and `alpha`, which KerasHub does not save."""

    def contents(path):
        found = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda name, node: found.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None
            )
        return {name: value for name, value in found.items() if name.split("/")[-1] not in ("bias", "alpha")}

    x, y = contents(a), contents(b)
    problems = [f"{path} is in only one of them" for path in sorted(set(x) ^ set(y))]
    return problems + [
        f"{path} differs"
        for path in sorted(set(x) & set(y))
        if x[path].dtype != y[path].dtype or x[path].tobytes() != y[path].tobytes()
    ]


def close_presets(ours, theirs):
    a, b = variables(ours), variables(theirs)
    problems = [f"{path} is in only one of them" for path in sorted(set(a) ^ set(b))]
    for path in sorted(set(a) & set(b)):
        (dtype, x), (other, y) = a[path], b[path]
        off = distance(x.astype("float32"), y.astype("float32"))
        limit = 2**-7 * max(1, float(np.max(np.abs(x.astype("float32"))))) if dtype == "bfloat16" else 1e-6
        if dtype != other or not off <= limit:
            problems.append(f"{path}: {dtype} here, {other} in KerasHub, {off} apart")
    return problems


def main():
    import keras
    import keras_hub

    models = keras_hub.models
    rng = np.random.default_rng(11)
    check = Check()
    with tempfile.TemporaryDirectory() as root:
        at = lambda *names: os.path.join(root, *names)
        models_of = {}
        for vision in (None, VISION):
            for dtype in ("float32", "bfloat16"):
                name = f"{'vision' if vision else 'text'}, {dtype}"
                encoder = vision and models.Gemma3VisionEncoder(**vision, dtype="float32")
                config = {**TEXT, "image_size": vision and vision["image_size"], "vision_encoder": encoder}
                backbone = models.Gemma3Backbone(**config, dtype=dtype)
                for variable in backbone.weights:
                    set_random(variable, rng)
                backbone.save_to_preset(at(name))
                models_of[name] = (at(name), dtype, inputs_of({**config, "vision_encoder": vision}, rng))

        cases = []
        for name, (preset, dtype, inputs) in models_of.items():
            all_targets = ["query", "key", "value", "attention_output", "ffw_linear"]
            for rank, targets in ((1, None), (4, None), (3, all_targets)):
                case = f"{name}, rank {rank}, {'all' if targets else 'default'} targets"
                # From KerasHub.
                backbone = models.Gemma3Backbone.from_preset(preset, dtype=dtype)
                backbone.enable_lora(rank, targets)
                counts = [len(backbone.trainable_weights), len(backbone.non_trainable_weights)]
                for variable in backbone.trainable_weights:
                    if "lora" in variable.name:
                        set_random(variable, rng)
                path = at(f"{case}.lora.h5")
                backbone.save_lora_weights(path)
                backbone.save_to_preset(at(f"{case}, merged by KerasHub"))
                cases.append((case, "keras", preset, inputs, rank, targets, path, counts))
                # From here.
                for alpha in (None, 2 * rank, 5):
                    cases.append((f"{case}, alpha {alpha}", "here", preset, inputs, rank, targets, alpha, counts))

        steps = []
        for case, source, preset, inputs, rank, targets, given, _ in cases:
            step = {"preset": preset, "inputs": inputs, "saveLora": at(f"{case}, here.lora.h5")}
            if source == "keras":
                step |= {"load": given, "savePreset": at(f"{case}, merged here")}
            else:
                options = {} if targets is None else {"targetLayerNames": targets}
                step["enable"] = {"rank": rank, "options": options | ({} if given is None else {"alpha": given})}
            steps.append(step)
        results = run_node(steps, root, STEPS)

        for (case, source, preset, inputs, rank, targets, given, counts), result in zip(cases, results):
            problems = [] if result["trainable"] == counts else [f"weights: {result['trainable']} here, {counts} there"]
            saved = at(f"{case}, here.lora.h5")
            backbone = models.Gemma3Backbone.from_preset(preset, dtype="float32")
            if targets:
                backbone.enable_lora(rank, targets)
            backbone.load_lora_weights(saved)
            if source == "keras":
                problems += compare_files(saved, given)
                problems += close_presets(at(f"{case}, merged here"), at(f"{case}, merged by KerasHub"))
            else:
                # KerasHub does not load trained biases, although the file holds them.
                with h5py.File(saved) as file:
                    layers = [layer for layer in backbone._flatten_layers(include_self=False) if layer.weights]
                    for index in file["lora"]:
                        if index != "vars" and "bias" in file[f"lora/{index}/vars"]:
                            layers[int(index)].bias.assign(file[f"lora/{index}/vars/bias"][()])
                again = at(f"{case}, again.lora.h5")
                backbone.save_lora_weights(again)
                problems += compare_files(saved, again)
            there = hidden_states(backbone, inputs)
            off = distance(there, result["hidden"])
            largest = max(1.0, float(np.max(np.abs(there))))
            if not off < TOLERANCE:
                problems.append(f"hidden states differ by {off}")
            merged = distance(there, result["merged"])
            # A merged bfloat16 kernel is rounded.
            if not merged < (0.2 * largest if "bfloat16" in case else TOLERANCE):
                problems.append(f"hidden states, merged, differ by {merged}")
            detail = f"{counts[0]} trained, hidden states within {off:.1e}, merged {merged:.1e}"
            check.report(f"{case}, from {source}", detail, problems)
            keras.backend.clear_session()
    print(f"{len(cases)} files, {check.failed} differ; KerasHub {keras_hub.__version__}, Keras {keras.__version__}")
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
