"""Check that Python KerasHub and this package read each other's presets.

`save_presets.mjs` in this folder runs the package in `dist`. Each preset that it saves must
  - load in KerasHub, with the same hidden states or embeddings (within 1e-4) and greedy texts as here;
  - hold the variables of the preset it was loaded from, bit for bit, or rounded as requested;
  - be saved by KerasHub to the same JSON files, key by key.
Presets that KerasHub saves must have the same hidden states here. Covers text and vision; float32, bfloat16 and
float16; one weight file and shards. Prints one line per case and exits with 1 on any difference.

Usage: python check_saved_presets.py   (after `npm run build`)
"""

import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import ml_dtypes
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "../../presets/gemma3_tiny")
TOLERANCE = 1e-4
PROMPTS = ["What is the capital of France?", "Once upon a time"]
MAX_LENGTH = 40

TEXT = {
    "vocabulary_size": 64,
    "image_size": None,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 24,
    "intermediate_dim": 40,
    "head_dim": 8,
    "use_post_ffw_norm": True,
    "use_post_attention_norm": True,
    "final_logit_soft_cap": 30.0,
    "use_sliding_window_attention": True,
    "sliding_window_size": 4,
    "dropout": 0.1,
}
VISION = {
    "image_size": 16,
    "patch_size": 4,
    "num_heads": 2,
    "hidden_dim": 12,
    "num_layers": 2,
    "intermediate_dim": 20,
    "output_dim": 24,
    "pool_size": 2,
}


def camel(config):
    def word(key):
        first, *rest = key.split("_")
        return first + "".join(part.title() for part in rest)

    return {word(key): camel(value) if isinstance(value, dict) else value for key, value in config.items()}


def run_node(steps, folder, script="save_presets.mjs"):
    path = os.path.join(folder, "steps.json")
    with open(path, "w") as f:
        json.dump(steps, f)
    done = subprocess.run(["node", os.path.join(HERE, script), path], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def variables(folder):
    """All variables of a preset: path -> (dtype, values)."""
    found = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".h5"):
            continue
        with h5py.File(os.path.join(folder, name)) as file:

            def visit(path, node):
                if isinstance(node, h5py.Dataset):
                    assert path not in found, f"{path} exists twice"
                    bfloat16 = node.attrs.get("dtype") == "bfloat16"
                    values = np.array(node, dtype=ml_dtypes.bfloat16) if bfloat16 else node[()]
                    found[path] = (str(values.dtype), values)

            file.visititems(visit)
    return found


def compare_variables(old, new, dtype):
    """Checks that both presets have the same variables; text variables in `dtype`, or unchanged if it is None."""
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


def differences(a, b, where):
    """Paths at which two JSON trees differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(set(a) | set(b)):
            if key == "date_saved":
                continue
            if key not in a or key not in b:
                yield f"{where}.{key} is missing {'here' if key not in a else 'in KerasHub'}"
            else:
                yield from differences(a[key], b[key], f"{where}.{key}")
    elif a != b:
        yield f"{where} is {a!r} here, {b!r} in KerasHub"


def compare_json(ours, theirs):
    problems = []
    names = {name for folder in (ours, theirs) for name in os.listdir(folder) if name.endswith(".json")}
    for name in sorted(names):
        paths = [os.path.join(folder, name) for folder in (ours, theirs)]
        if not all(os.path.exists(path) for path in paths):
            problems.append(f"{name} is written by only one of them")
            continue
        trees = []
        for path in paths:
            with open(path) as f:
                trees.append(json.load(f))
        problems += differences(*trees, name)
    return problems


def inputs_of(config, rng):
    """Two rows of five tokens, the second one padded; with a vision encoder, one row with an image."""
    vision = config["vision_encoder"]
    ids = rng.integers(3, config["vocabulary_size"], (2, 5)).tolist()
    inputs = {"token_ids": ids, "padding_mask": [[1] * 5, [1, 1, 1, 0, 0]]}
    if vision is not None:
        size, tokens = vision["image_size"], (vision["image_size"] // vision["patch_size"] // vision["pool_size"]) ** 2
        length = tokens + 3
        inputs = {
            "token_ids": rng.integers(3, config["vocabulary_size"], (1, length)).tolist(),
            "padding_mask": [[1] * length],
            "images": rng.uniform(-1, 1, (1, 1, size, size, 3)).astype("float32").tolist(),
            "vision_indices": [list(range(1, tokens + 1))],
            "vision_mask": [[0] + [1] * tokens + [0, 0]],
        }
    return inputs


def hidden_states(backbone, inputs):
    arrays = {k: np.array(v, dtype="float32" if k == "images" else "int32") for k, v in inputs.items()}
    return np.array(backbone(arrays), dtype="float32").ravel()


def distance(a, b):
    a, b = np.array(a), np.array(b)
    return float(np.max(np.abs(a - b))) if a.shape == b.shape else float("inf")


class Check:
    def __init__(self):
        self.failed = 0

    def report(self, name, detail, problems):
        print(f"{name}: {'ok' if not problems else 'DIFFERS'}, {detail}")
        for problem in problems[:10]:
            print(f"  {problem}", file=sys.stderr)
        self.failed += bool(problems)


def main():
    import keras
    import keras_hub

    models = keras_hub.models
    rng = np.random.default_rng(7)
    check = Check()
    with tempfile.TemporaryDirectory() as root:
        at = lambda *names: os.path.join(root, *names)

        # Presets saved by KerasHub: random models, with and without vision.
        sources = {"gemma3_tiny": (TINY, PROMPTS)}
        for vision, dtype, shard in (
            (None, "float32", None),
            (None, "bfloat16", 40),
            (None, "float16", None),
            (VISION, "float32", 40),
            (VISION, "bfloat16", None),
        ):
            name = f"{'vision' if vision else 'text'}, {dtype}{', shards' if shard else ''}"
            encoder = vision and models.Gemma3VisionEncoder(**vision, dtype="float32")
            config = {**TEXT, "image_size": vision and vision["image_size"], "vision_encoder": encoder}
            backbone = models.Gemma3Backbone(**config, dtype=dtype)
            for variable in backbone.weights:
                # Norms and biases start as zeros, which would look right in any order.
                variable.assign(rng.normal(0, 0.3, variable.shape))
            backbone.save_to_preset(at(name), **({"max_shard_size": shard / 1024**2} if shard else {}))
            sources[name] = (at(name), None)

        # Loaded, used and saved here.
        saves = (
            ("as it is", {}),
            ("as float32, shards", {"dtype": "float32", "maxShardSize": 1}),
            ("as bfloat16", {"dtype": "bfloat16"}),
        )
        cases = []
        for name, (path, prompts) in sources.items():
            with open(os.path.join(path, "config.json")) as f:
                config = json.load(f)["config"]
            vision = config["vision_encoder"] and config["vision_encoder"]["config"]
            inputs = inputs_of({**config, "vision_encoder": vision}, rng)
            for kind, options in saves:
                options = dict(options)
                if "maxShardSize" in options:
                    # A third more than the largest variable: several files for any model.
                    largest = max(values.size for _, values in variables(path).values())
                    options["maxShardSize"] = largest * 4 * 4 / 3 / 1024**3
                cases.append((f"{name}, saved {kind}", path, at(f"{name}-{kind}"), inputs, prompts, options))
        # Models created here.
        created = []
        for vision in (None, VISION):
            config = {**TEXT, "image_size": vision and vision["image_size"], "vision_encoder": vision}
            for dtype in ("float32", "bfloat16"):
                name = f"created here, {'vision' if vision else 'text'}, {dtype}"
                created.append((name, at(name), inputs_of(config, rng), camel({**config, "dtype": dtype})))

        steps = [
            {"load": path, "save": to, "saveOptions": options, "inputs": inputs, "maxLength": MAX_LENGTH}
            | ({"prompts": prompts} if prompts else {})
            for _, path, to, inputs, prompts, options in cases
        ]
        steps += [{"make": config, "save": to, "inputs": inputs} for _, to, inputs, config in created]
        embedders = [
            (f"embedder, {mode}, {'normalized' if normalize else 'as it is'}", mode, normalize, at(f"embed-{mode}"))
            for mode, normalize in (("last", True), ("mean", False))
        ]
        steps += [
            {"load": TINY, "embedder": {"poolingMode": mode, "normalize": normalize}, "texts": PROMPTS, "save": to}
            for _, mode, normalize, to in embedders
        ]
        results = run_node(steps, root)

        all_cases = cases + [(name, None, to, inputs, None, {}) for name, to, inputs, _ in created]
        for (name, path, to, inputs, prompts, options), result in zip(all_cases, results):
            problems, notes = [], []
            backbone = models.Gemma3Backbone.from_preset(to, dtype="float32")
            # A model rounded while saving has other hidden states, but the right variables.
            if options.get("dtype") != "bfloat16":
                off = distance(hidden_states(backbone, inputs), result["hidden"])
                notes.append(f"hidden states within {off:.1e}")
                if not off < TOLERANCE:
                    problems.append(f"hidden states differ by {off}")
            if prompts and options.get("dtype") != "bfloat16":
                lm = models.Gemma3CausalLM.from_preset(to, dtype="float32")
                lm.compile(sampler="greedy")
                texts = lm.generate(prompts, max_length=MAX_LENGTH)
                notes.append("same texts")
                if texts != result["texts"]:
                    problems.append(f"texts: {result['texts']} here, {texts} in KerasHub")
            if path:
                problems += compare_variables(path, to, options.get("dtype"))
                notes.append(f"{len(variables(to))} variables equal")
            # KerasHub saves the loaded model in the same way.
            again = to + "-again"
            config = json.load(open(os.path.join(to, "config.json")))["config"]
            own = config["dtype"]["config"]["name"]
            shard = {"max_shard_size": options["maxShardSize"]} if "maxShardSize" in options else {}
            cls = models.Gemma3CausalLM if prompts else models.Gemma3Backbone
            cls.from_preset(to, dtype=own).save_to_preset(again, **shard)
            problems += compare_json(to, again) + compare_variables(to, again, None)
            files = sum(name.endswith(".h5") for name in os.listdir(to))
            notes.append(f"{files} weight file{'s' if files > 1 else ''}, same JSON")
            check.report(name, ", ".join(notes), problems)
            keras.backend.clear_session()

        for (name, _, _, to), result in zip(embedders, results[len(all_cases) :]):
            embedder = models.Gemma3TextEmbedder.from_preset(to, dtype="float32")
            # KerasHub's `encode_text` passes no image inputs at all to a model with vision.
            inputs = {key: np.array(value, dtype="int32") for key, value in embedder.preprocessor(PROMPTS).items()}
            size, (rows, length) = embedder.backbone.image_size, inputs["token_ids"].shape
            inputs["images"] = np.zeros((rows, 0, size, size, 3), dtype="float32")
            inputs["vision_indices"] = np.zeros((rows, 0), dtype="int32")
            inputs["vision_mask"] = np.zeros((rows, length), dtype="int32")
            off = distance(np.array(embedder(inputs)).ravel(), result["hidden"])
            problems = [] if off < TOLERANCE else [f"vectors differ by {off}"]
            models.Gemma3TextEmbedder.from_preset(to, dtype="bfloat16").save_to_preset(to + "-again")
            problems += compare_json(to, to + "-again") + compare_variables(to, to + "-again", None)
            check.report(name, f"vectors within {off:.1e}, same JSON", problems)
    print(
        f"{len(all_cases) + len(embedders)} presets, {check.failed} differ; "
        f"KerasHub {keras_hub.__version__}, Keras {keras.__version__}"
    )
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
