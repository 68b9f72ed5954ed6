"""Check `gemma3 adapter --to gguf` against the Python package `gguf`, from the adapters that PEFT saved.

  - From PEFT: the tensors have the names that gguf's own map gives to PEFT's modules, their shapes and values, and the
    metadata is that of llama.cpp's convert_lora_to_gguf.py. Where modules have other ranks or scales, which GGUF has no
    place for, products are the same.
  - From a `.lora.h5` of the same adapter: products are the same.
  - Back to PEFT: products are the same; names, shapes and values too where all modules have one rank and scale.

Also writes test/fixtures/lora/peft/usual.gguf with `--write`: the adapter "usual" as the package `gguf` writes it.

Usage: python check_gguf_adapters.py [--write]   (after `npm run build`; needs gguf, numpy and safetensors)
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from gguf import MODEL_ARCH, GGUFReader, GGUFType, GGUFWriter, get_tensor_name_map
from safetensors.numpy import load_file

HERE = os.path.dirname(os.path.abspath(__file__))
CLI = os.path.join(HERE, "../../dist/cli.js")
PEFT = os.path.join(HERE, "../fixtures/lora/peft")
# The model of make_peft_fixtures.py.
CONFIG = {
    "vocabulary_size": 32,
    "image_size": 8,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 12,
    "head_dim": 4,
}
NAMES = get_tensor_name_map(MODEL_ARCH.GEMMA3, 2)


def from_peft(folder):
    """Matrices under the names of llama.cpp, and the factor of each product."""
    with open(os.path.join(folder, "adapter_config.json")) as f:
        config = json.load(f)
    tensors = {}
    for key, values in load_file(os.path.join(folder, "adapter_model.safetensors")).items():
        module, matrix = key.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_", 1)
        tensors[f"{NAMES.get_name(module)}.weight.lora_{matrix.lower()}"] = (values, module)
    factors = {}
    for name, (values, module) in tensors.items():
        if name.endswith("_a"):
            alpha = next((a for p, a in config["alpha_pattern"].items() if p in module), config["lora_alpha"])
            rank = values.shape[0]
            factors[name.removesuffix(".lora_a")] = alpha / (rank**0.5 if config["use_rslora"] else rank)
    return {name: values for name, (values, _) in tensors.items()}, factors, config["lora_alpha"]


def from_gguf(path):
    reader = GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    tensors = {t.name: np.array(t.data) for t in reader.tensors}
    alpha = fields["adapter.lora.alpha"]
    factors = {n.removesuffix(".lora_a"): alpha / t.shape[0] for n, t in tensors.items() if n.endswith("_a")}
    return tensors, factors, fields


def products(tensors, factors):
    return {name: factor * tensors[f"{name}.lora_b"] @ tensors[f"{name}.lora_a"] for name, factor in factors.items()}


def same(ours, theirs, exact):
    assert ours.keys() == theirs.keys(), (sorted(ours), sorted(theirs))
    for name, values in theirs.items():
        assert ours[name].shape == values.shape, (name, ours[name].shape, values.shape)
        error = np.abs(ours[name] - values).max()
        assert error <= (0 if exact else 1e-6 * np.abs(values).max()), (name, error)


def adapter(source, out, to, preset):
    subprocess.run(["node", CLI, "adapter", source, out, "--to", to, "--preset", preset], check=True, stdout=subprocess.DEVNULL)
    return out


def write_fixture():
    tensors, _, alpha = from_peft(os.path.join(PEFT, "usual"))
    writer = GGUFWriter(os.path.join(PEFT, "usual.gguf"), "gemma3")
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, values in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check(name, root, preset):
    peft = os.path.join(PEFT, name)
    theirs, factors, alpha = from_peft(peft)
    tensors, own, fields = from_gguf(adapter(peft, os.path.join(root, f"{name}.gguf"), "gguf", preset))
    expected = {"general.architecture": "gemma3", "general.type": "adapter", "adapter.type": "lora"}
    for key, value in expected.items():
        assert fields[key] == value, (key, fields[key])
    whole = name == "usual"
    if whole:
        same(tensors, theirs, True)
        assert fields["adapter.lora.alpha"] == alpha, fields["adapter.lora.alpha"]
    same(products(tensors, own), products(theirs, factors), False)
    lora = adapter(peft, os.path.join(root, f"{name}.lora.h5"), "keras", preset)
    again, own, _ = from_gguf(adapter(lora, os.path.join(root, f"{name}-h5.gguf"), "gguf", preset))
    same(products(again, own), products(theirs, factors), False)
    back, own, _ = from_peft(adapter(os.path.join(root, f"{name}.gguf"), os.path.join(root, f"{name}-back"), "peft", preset))
    same(products(back, own), products(theirs, factors), False)
    if whole:
        same(back, theirs, True)
    print(f"{name}: {len(theirs)} tensors; GGUF from PEFT and from .lora.h5, and PEFT from GGUF")


def main():
    if "--write" in sys.argv:
        write_fixture()
    with tempfile.TemporaryDirectory() as root:
        preset = os.path.join(root, "preset")
        os.mkdir(preset)
        with open(os.path.join(preset, "config.json"), "w") as f:
            json.dump(
                {
                    "module": "keras_hub.src.models.gemma3.gemma3_backbone",
                    "class_name": "Gemma3Backbone",
                    "config": CONFIG,
                    "registered_name": "keras_hub>Gemma3Backbone",
                },
                f,
            )
        for name in ["usual", "patterns", "rslora"]:
            check(name, root, preset)


if __name__ == "__main__":
    main()
