"""Check that Hugging Face's PEFT and this package read each other's adapters, and add the same to the weights.

`lora_steps.mjs` in this folder runs the package in `dist`. For models with and without vision:
  - PEFT loads adapters exported here, and every module adds the same numbers as here, to 1e-5.
  - This package imports PEFT's adapters (several ranks, alphas, patterns, rslora) and adds the same numbers.
  - Adapters that are imported and exported again keep their matrices.
Prints one line per case and exits with 1 on any difference. Needs no Keras: `pip install torch transformers peft h5py`.

Usage: python check_peft.py   (after `npm run build`)
"""

import json
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file
from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3TextConfig

HERE = os.path.dirname(os.path.abspath(__file__))
LAYERS, HEADS, KEY_HEADS, HIDDEN, HEAD_DIM, INNER = 2, 4, 2, 24, 8, 40
VISION_LAYERS, VISION_HIDDEN, VISION_INNER = 2, 12, 20

OURS = {
    "vocabularySize": 64,
    "imageSize": None,
    "numLayers": LAYERS,
    "numQueryHeads": HEADS,
    "numKeyValueHeads": KEY_HEADS,
    "hiddenDim": HIDDEN,
    "intermediateDim": INNER,
    "headDim": HEAD_DIM,
    "usePostFfwNorm": True,
    "usePostAttentionNorm": True,
}
OUR_VISION = {
    "imageSize": 16,
    "patchSize": 4,
    "numHeads": 2,
    "hiddenDim": VISION_HIDDEN,
    "numLayers": VISION_LAYERS,
    "intermediateDim": VISION_INNER,
    "outputDim": HIDDEN,
    "poolSize": 2,
}
TEXT_PARTS = {
    "attention/query_dense": ("self_attn.q_proj", HEADS),
    "attention/key_dense": ("self_attn.k_proj", KEY_HEADS),
    "attention/value_dense": ("self_attn.v_proj", KEY_HEADS),
    "attention/output_dense": ("self_attn.o_proj", None),
    "gating_ffw": ("mlp.gate_proj", None),
    "gating_ffw_2": ("mlp.up_proj", None),
    "ffw_linear": ("mlp.down_proj", None),
}
VISION_PARTS = {
    "attn/query_proj": "self_attn.q_proj",
    "attn/key_proj": "self_attn.k_proj",
    "attn/value_proj": "self_attn.v_proj",
    "attn/out_proj": "self_attn.out_proj",
    "mlp_dense_1": "mlp.fc1",
    "mlp_dense_2": "mlp.fc2",
}


def hugging_face(vision):
    text = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        head_dim=HEAD_DIM,
    )
    if not vision:
        return Gemma3ForCausalLM(text)
    encoder = {
        "hidden_size": VISION_HIDDEN,
        "num_hidden_layers": VISION_LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": VISION_INNER,
        "image_size": 16,
        "patch_size": 4,
    }
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text.to_dict(), vision_config=encoder))


def deltas_of_peft(model):
    """Module -> what its adapter adds to its weight, (out, in)."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach().numpy()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and "default" in module.lora_A
    }


def deltas_here(base, merged, vision):
    """The same from two presets; 0 where nothing is added. Axes as KerasHub's converter of Gemma 3 has them."""
    found = {}
    counter = lambda name, i: f"{name}_{i}" if i else name
    weights = lambda preset: h5py.File(os.path.join(preset, "model.weights.h5"))
    with weights(base) as a, weights(merged) as b:
        for i in range(LAYERS):
            for part, (module, heads) in TEXT_PARTS.items():
                path = f"layers/{counter('gemma3_decoder_block', i)}/{part}/vars/0"
                x = b[path][()] - a[path][()]
                if heads:
                    x = np.transpose(x, (0, 2, 1)).reshape(-1, x.shape[1])
                else:
                    x = x.reshape(-1, x.shape[-1]).T
                found[f"model.{'language_model.' if vision else ''}layers.{i}.{module}"] = x
        for i in range(VISION_LAYERS if vision else 0):
            for part, module in VISION_PARTS.items():
                layer = counter("gemma3_vision_encoder_layer", i)
                block = "layers/gemma3_vision_encoder/layers/gemma3_vision_encoder_block/resblocks"
                path = f"{block}/{layer}/{part}/vars/0"
                found[f"model.vision_tower.vision_model.encoder.layers.{i}.{module}"] = (b[path][()] - a[path][()]).T
    return found


def compare(peft, here):
    problems, off = [], 0.0
    for name, x in here.items():
        there = peft.get(name)
        if there is None and np.any(x):
            problems.append(f"{name} is adapted only here")
        elif there is not None:
            off = max(off, float(np.max(np.abs(x - there))))
            if not np.any(there):
                problems.append(f"{name} adds nothing")
    problems += [f"{name} is adapted only by PEFT" for name in peft if name not in here]
    if not off < 1e-5:
        problems.append(f"{off} apart")
    return f"{len(peft)} modules within {off:.1e}", problems


def main():
    torch.manual_seed(3)
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        at = lambda *names: os.path.join(root, *names)
        steps, cases = [], []
        for vision in (False, True):
            kind = "vision" if vision else "text"
            extra = {"imageSize": 16, "visionEncoder": OUR_VISION} if vision else {}
            base = at(kind)
            steps.append({"make": {**OURS, **extra}, "savePreset": base})
            every = ["query", "key", "value", "attention_output", "ffw_gating", "ffw_gating_2", "ffw_linear"]
            if vision:
                every += ["query_proj", "key_proj", "value_proj", "out_proj", "mlp_dense_1", "mlp_dense_2"]
            for name, rank, options in (
                ("defaults", 4, {}),
                ("text only, alpha 7", 3, {"alpha": 7, "targetLayerNames": ["query", "ffw_linear"]}),
                ("everything", 2, {"targetLayerNames": every, "alpha": 16}),
            ):
                case = f"{kind}, from here, {name}"
                peft, merged = at(case, "peft"), at(case, "merged")
                enable = {"rank": rank, "options": options}
                steps.append({"preset": base, "enable": enable, "savePeft": peft, "savePreset": merged})
                cases.append((case, vision, base, peft, merged, None))
            for name, config in (
                ("queries and values", LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])),
                ("everything", LoraConfig(r=2, lora_alpha=3, target_modules="all-linear")),
                ("rslora", LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules=["o_proj", "k_proj"])),
                (
                    "patterns",
                    LoraConfig(
                        r=2,
                        lora_alpha=8,
                        target_modules=["q_proj", "gate_proj", "down_proj"],
                        rank_pattern={r"layers\.1\.self_attn\.q_proj": 3, "down_proj": 5},
                        alpha_pattern={"gate_proj": 1},
                    ),
                ),
            ):
                case = f"{kind}, from PEFT, {name}"
                if vision and name == "everything":
                    # Leaves out the pooling head of the vision tower, which Gemma does not use.
                    config = LoraConfig(
                        r=2, lora_alpha=3, target_modules=r".*layers\.\d+\..*(proj|fc1|fc2)", bias="none"
                    )
                model = get_peft_model(hugging_face(vision), config)
                for key, parameter in model.named_parameters():
                    if "lora_" in key:
                        torch.nn.init.normal_(parameter, std=0.3)
                peft, merged = at(case, "peft"), at(case, "merged")
                model.save_pretrained(peft)
                steps.append({"preset": base, "importPeft": peft, "savePreset": merged, "savePeft": at(case, "again")})
                cases.append((case, vision, base, peft, merged, at(case, "again")))

        with open(at("steps.json"), "w") as f:
            json.dump(steps, f)
        subprocess.run(
            ["node", os.path.join(HERE, "lora_steps.mjs"), at("steps.json")], stdout=subprocess.PIPE, check=True
        )
        for case, vision, base, peft, merged, again in cases:
            there = deltas_of_peft(PeftModel.from_pretrained(hugging_face(vision), peft))
            here = deltas_here(base, merged, vision)
            detail, problems = compare(there, here)
            if again:
                _, more = compare(deltas_of_peft(PeftModel.from_pretrained(hugging_face(vision), again)), here)
                problems += [f"exported again: {problem}" for problem in more]
            size = sum(x.size for x in load_file(os.path.join(peft, "adapter_model.safetensors")).values())
            print(f"{case}: {'ok' if not problems else 'DIFFERS'}, {detail}, {size:,} parameters")
            for problem in problems[:10]:
                print(f"  {problem}", file=sys.stderr)
            failed += bool(problems)
    print(f"{len(cases)} adapters, {failed} differ")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
