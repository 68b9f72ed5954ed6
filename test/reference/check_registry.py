"""Check presets/gemma3_presets.json against KerasHub.

For every preset, each of these pairs must agree:
  - the published number of parameters, and the number computed from the configuration;
  - the formula for it, and `count_params()` of a KerasHub model built from the
    configuration with smaller sizes and every switch unchanged;
  - the name, number and handle here, and those in KerasHub's own list.
presets/other_families.json must have the names of all other presets of KerasHub, by the class of their backbone.
Prints a table and exits with 1 on any difference.

Usage: python check_registry.py [REGISTRY.json]
       python check_registry.py --write-families    writes presets/other_families.json
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

REGISTRY = os.path.join(os.path.dirname(__file__), "../../presets/gemma3_presets.json")
FAMILIES = os.path.join(os.path.dirname(__file__), "../../presets/other_families.json")

# Sizes as different from each other as possible, so that no term of the formula can be mistaken for another.
TINY = {
    "vocabulary_size": 101,
    "num_layers": 7,
    "num_query_heads": 6,
    "num_key_value_heads": 3,
    "hidden_dim": 10,
    "intermediate_dim": 23,
    "head_dim": 4,
    "sliding_window_size": 5,
}
TINY_VISION = {
    "image_size": 24,
    "patch_size": 4,
    "num_heads": 2,
    "hidden_dim": 14,
    "num_layers": 3,
    "intermediate_dim": 19,
    "output_dim": 10,
    "pool_size": 3,
}
TINY_POOLING = {"pooling_intermediate_dim": 17, "embedding_dim": 13}


def vision_params(c):
    h, f = c["hidden_dim"], c["intermediate_dim"]
    patches = (c["image_size"] // c["patch_size"]) ** 2
    embedding = c["patch_size"] ** 2 * 3 * h + h + patches * h
    attention = 4 * (h * h + h)
    mlp = (h * f + f) + (f * h + h)
    layer = attention + mlp + 2 * (2 * h)
    return embedding + c["num_layers"] * layer + 2 * h + h + h * c["output_dim"]


def backbone_params(c):
    h, d = c["hidden_dim"], c["head_dim"]
    norms = 2 + c["use_post_attention_norm"] + c["use_post_ffw_norm"]
    layer = (
        2 * h * d * (c["num_query_heads"] + c["num_key_value_heads"])
        + 2 * d * c["use_query_key_norm"]
        + 3 * h * c["intermediate_dim"]
        + norms * h
    )
    total = c["vocabulary_size"] * h + c["num_layers"] * layer + h
    if c["is_embedding_model"]:
        total += h * c["pooling_intermediate_dim"] + c["pooling_intermediate_dim"] * c["embedding_dim"]
    if c["vision_encoder"] is not None:
        total += vision_params(c["vision_encoder"])
    return total


def shrink(config):
    c = {**config, **TINY}
    if c["is_embedding_model"]:
        c.update(TINY_POOLING)
    if c["vision_encoder"] is not None:
        c["vision_encoder"] = {**c["vision_encoder"], **TINY_VISION}
        c["image_size"] = TINY_VISION["image_size"]
    return c


def build(keras_hub, config):
    c = dict(config)
    if c["vision_encoder"] is not None:
        c["vision_encoder"] = keras_hub.models.Gemma3VisionEncoder(**c["vision_encoder"])
    return keras_hub.models.Gemma3Backbone(**c)


def structure_problems(config, model):
    """A configuration must have exactly the keys of `get_config`, with consistent values."""
    problems = []
    written = model.get_config()
    pairs = [("config", config, written)]
    vision = config["vision_encoder"]
    if vision is not None:
        pairs.append(("vision_encoder", vision, written["vision_encoder"]["config"]))
        if vision["image_size"] != config["image_size"]:
            problems.append("the vision encoder has a different image_size")
        if vision["output_dim"] != config["hidden_dim"]:
            problems.append("the vision encoder's output_dim is not hidden_dim")
        if vision["hidden_dim"] % vision["num_heads"]:
            problems.append("the vision encoder's hidden_dim is not a multiple of its num_heads")
    for name, ours, theirs in pairs:
        if set(ours) != set(theirs):
            problems.append(f"{name} differs in keys: {sorted(set(ours) ^ set(theirs))}")
    if config["num_query_heads"] % config["num_key_value_heads"]:
        problems.append("num_query_heads is not a multiple of num_key_value_heads")
    return problems


def other_families():
    """Names of KerasHub's presets of other families, separated by spaces, by the class of their backbone."""
    from keras_hub.src.utils.preset_utils import BUILTIN_PRESETS_FOR_BACKBONE as presets

    names = {cls.__name__: " ".join(sorted(entries)) for cls, entries in presets.items()}
    return dict(sorted((name, text) for name, text in names.items() if text and name != "Gemma3Backbone"))


def main():
    if sys.argv[1:] == ["--write-families"]:
        with open(FAMILIES, "w", encoding="utf-8") as f:
            json.dump(other_families(), f, indent=1)
            f.write("\n")
        return
    path = sys.argv[1] if len(sys.argv) > 1 else REGISTRY
    with open(path, encoding="utf-8") as f:
        registry = json.load(f)
    import keras
    import keras_hub

    listed = keras_hub.models.Gemma3Backbone.presets
    rows, problems = [], []
    for name, entry in registry.items():
        config, published = entry["config"], entry["metadata"]["params"]
        computed = backbone_params(config)
        tiny = shrink(config)
        model = build(keras_hub, tiny)
        formula, real = backbone_params(tiny), model.count_params()
        wrong = structure_problems(config, model)
        keras.backend.clear_session()
        if computed != published:
            wrong.append(f"the configuration gives {computed} parameters, the published number is {published}")
        if formula != real:
            wrong.append(f"the formula gives {formula} for the tiny model, KerasHub counts {real}")
        if name in listed:
            if listed[name]["metadata"]["params"] != published:
                wrong.append(f"KerasHub lists {listed[name]['metadata']['params']} parameters")
            if listed[name]["kaggle_handle"] != entry["kaggleHandle"]:
                wrong.append(f"KerasHub lists {listed[name]['kaggle_handle']}")
        else:
            wrong.append("KerasHub does not list it")
        rows.append((name, published, computed, formula, real, "differs" if wrong else "ok"))
        problems += [f"{name}: {text}" for text in wrong]
    with open(FAMILIES, encoding="utf-8") as f:
        if json.load(f) != other_families():
            problems.append("presets/other_families.json differs: run this script with --write-families")
    problems += [f"{name}: missing here" for name in sorted(set(listed) - set(registry))]

    head = ("preset", "published", "computed", "tiny formula", "tiny KerasHub", "")
    table = [head] + [tuple(f"{v:,}" if isinstance(v, int) else v for v in row) for row in rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    for row in table:
        cells = [row[0].ljust(widths[0])] + [row[i].rjust(widths[i]) for i in range(1, len(row))]
        print("  ".join(cells).rstrip())
    print(f"{len(rows)} presets, KerasHub {keras_hub.__version__} lists {len(listed)}")
    for text in problems:
        print(text, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
