"""Check that Python KerasHub and this package read each other's `.weights.h5` files.

`save_weights.mjs` in this folder runs the package in `dist`. Each file that KerasHub's `save_weights` writes must
  - load here, with the same hidden states (within 1e-4);
  - be saved here with the same variables under the same paths, bit for bit, or rounded as requested;
  - then load in KerasHub without a warning, with the same weights.
Covers backbones, language models and embedders; text and vision; float32, bfloat16 and float16; LoRA. Prints one line
per case and exits with 1 on any difference.

Usage: python check_weights.py   (after `npm run build`)
"""

import os
import sys
import tempfile
import warnings

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import ml_dtypes
import numpy as np
from check_saved_presets import TEXT, TOLERANCE, VISION, Check, camel, distance, hidden_states, inputs_of, run_node


def variables(path):
    """The variables of layers in a file: path -> (dtype, values)."""
    found = {}

    def visit(name, node):
        if isinstance(node, h5py.Dataset) and "seed_generator" not in name and not name.startswith("optimizer/"):
            bfloat16 = node.attrs.get("dtype") == "bfloat16"
            values = np.array(node, dtype=ml_dtypes.bfloat16) if bfloat16 else node[()]
            found[name] = (str(values.dtype), values)

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def compare(old, new, dtype):
    a, b = variables(old), variables(new)
    problems = [f"{path} is in only one of them" for path in sorted(set(a) ^ set(b))]
    for path in sorted(set(a) & set(b)):
        (was, x), (now, y) = a[path], b[path]
        want = was if dtype is None or "gemma3_vision_encoder" in path else dtype
        if now != want:
            problems.append(f"{path} has dtype {now}, expected {want}")
        elif x.astype(want).tobytes() != y.tobytes():
            problems.append(f"{path} has other values")
    return problems


def main():
    import keras
    import keras_hub

    models = keras_hub.models
    rng = np.random.default_rng(15)
    check = Check()

    def make(kind, vision, dtype):
        keras.backend.clear_session()
        encoder = vision and models.Gemma3VisionEncoder(**vision, dtype="float32")
        config = {**TEXT, "image_size": vision and vision["image_size"], "vision_encoder": encoder}
        backbone = models.Gemma3Backbone(**config, dtype=dtype)
        for variable in backbone.weights:
            variable.assign(rng.normal(0, 0.3, variable.shape))
        if kind == "causal_lm":
            return models.Gemma3CausalLM(backbone=backbone, preprocessor=None, compile=False)
        if kind == "embedder":
            return models.Gemma3TextEmbedder(backbone, preprocessor=None, compile=False)
        return backbone

    with tempfile.TemporaryDirectory() as root:
        cases, steps = [], []
        for kind in ("backbone", "causal_lm", "embedder"):
            for vision, dtype, lora, options in (
                (None, "float32", None, {}),
                (None, "float32", 2, {}),
                (None, "float32", None, {"dtype": "bfloat16"}),
                (None, "bfloat16", None, {}),
                (None, "float16", None, {}),
                (VISION, "float32", 2, {}),
                (VISION, "bfloat16", None, {"dtype": "float32"}),
            ):
                name = f"{kind}, {'vision' if vision else 'text'}, {dtype}"
                name += f"{', LoRA' if lora else ''}{', saved as ' + options['dtype'] if options else ''}"
                model = make(kind, vision, dtype)
                backbone = getattr(model, "backbone", None) or model
                if lora:
                    backbone.enable_lora(lora)
                    for variable in backbone.trainable_weights:
                        variable.assign(rng.normal(0, 0.3, variable.shape))
                theirs, ours = (os.path.join(root, f"{len(cases)}-{who}.weights.h5") for who in ("keras", "here"))
                model.save_weights(theirs)
                config = {**TEXT, "image_size": vision and vision["image_size"], "vision_encoder": vision}
                inputs = inputs_of(config, rng)
                # Computed in float32, as here.
                exact = make("backbone", vision, "float32")
                exact_model = exact
                if kind == "causal_lm":
                    exact_model = models.Gemma3CausalLM(backbone=exact, preprocessor=None, compile=False)
                elif kind == "embedder":
                    exact_model = models.Gemma3TextEmbedder(exact, preprocessor=None, compile=False)
                exact_model.load_weights(theirs)
                cases.append((name, kind, vision, dtype, theirs, ours, options, hidden_states(exact, inputs)))
                steps.append(
                    {"kind": kind, "make": camel({**config, "dtype": dtype}), "lora": lora, "load": theirs}
                    | {"save": ours, "saveOptions": options, "inputs": inputs}
                )
        results = run_node(steps, root, "save_weights.mjs")
        for (name, kind, vision, dtype, theirs, ours, options, hidden), result in zip(cases, results):
            off = distance(hidden, result["hidden"])
            problems = [] if off < TOLERANCE else [f"hidden states differ by {off}"]
            problems += compare(theirs, ours, options.get("dtype"))
            model = make(kind, vision, options.get("dtype", dtype))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                model.load_weights(ours)
            again = ours.replace("here", "again")
            model.save_weights(again)
            problems += compare(ours, again, None)
            check.report(name, f"hidden states within {off:.1e}, {len(variables(ours))} variables equal", problems)
    print(f"{len(cases)} files, {check.failed} differ; KerasHub {keras_hub.__version__}, Keras {keras.__version__}")
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
