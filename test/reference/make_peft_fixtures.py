"""Writes test/fixtures/lora/peft: adapters saved by Hugging Face's PEFT, and what they add to each module.

Needs no Keras: `pip install torch transformers peft`.

Usage: python make_peft_fixtures.py
"""

import json
import os

import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../fixtures/lora/peft")

TEXT = Gemma3TextConfig(
    vocab_size=32,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=4,
)
CASES = {
    "usual": LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "v_proj"]),
    "patterns": LoraConfig(
        r=2,
        lora_alpha=8,
        target_modules=["k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        rank_pattern={r"layers\.1\.self_attn\.k_proj": 3, "down_proj": 1},
        alpha_pattern={"gate_proj": 1},
    ),
    "rslora": LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules=["o_proj"]),
}


def main():
    torch.manual_seed(3)
    for name, config in CASES.items():
        model = get_peft_model(Gemma3ForCausalLM(TEXT), config)
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(parameter, std=0.3)
        folder = os.path.join(OUT, name)
        model.save_pretrained(folder)
        os.remove(os.path.join(folder, "README.md"))
        deltas = {
            key.removeprefix("base_model.model.model."): [
                round(v, 6) for v in module.get_delta_weight("default").ravel().tolist()
            ]
            for key, module in model.named_modules()
            if hasattr(module, "get_delta_weight") and "default" in module.lora_A
        }
        with open(os.path.join(folder, "expected.json"), "w") as f:
            json.dump(deltas, f)


if __name__ == "__main__":
    main()
