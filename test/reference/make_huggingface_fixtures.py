"""Writes test/fixtures/huggingface: folders as transformers saves them, and what it computes with them.

    python test/reference/make_huggingface_fixtures.py [CASE ...]

Runs with torch and any version of transformers: names of tensors and keys of config.json are those of the version.
Cases whose names end with a version are to be made with that version. Weights are random.

  text        transformers 5: bfloat16, RoPE factor 8, queries scaled by hidden_size / heads, tokenizer.model
  shards      transformers 5: float32, shards, soft cap, tokenizer.json as transformers makes it from tokenizer.model
  vision      transformers 5: text and images, float16
  embedder    the layout of sentence-transformers around a bidirectional model
  text_4.51, vision_4.51, vision_4.57   the same, by those versions

expected.json holds {ids, hidden, logits, greedy}, for images also {pixels, image_hidden}, and for the embedder
{embeddings}. Hidden states are after the last norm. The first token of each prompt is <bos>.
"""

import json
import os
import shutil
import sys

import numpy as np
import torch
import transformers
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    Gemma3TextModel,
)

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "fixtures")
OUT = os.path.join(FIXTURES, "huggingface")
PROTO = os.path.join(FIXTURES, "tokenizer", "vocabulary.spm")
VOCABULARY = 1500
VERSION = ".".join(transformers.__version__.split(".")[:2])
OLD = int(VERSION.split(".")[0]) < 5

TEXT = dict(
    vocab_size=VOCABULARY,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=7,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    query_pre_attn_scalar=8,
    sliding_window=5,
    max_position_embeddings=256,
    pad_token_id=0,
    eos_token_id=1,
    bos_token_id=2,
)
VISION = dict(
    hidden_size=12,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=16,
    patch_size=2,
    # As in Google's. Without it versions before 4.57 also save a head that nothing uses: one case keeps it.
    vision_use_head=VERSION == "4.57",
)
IDS = [2, 700, 812, 1003, 1499, 333, 400, 1200, 900, 901, 55, 18, 1100, 1101]


def rope(factor):
    if OLD:
        return dict(rope_scaling=dict(rope_type="linear", factor=factor)) if factor != 1 else {}
    return dict(
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=factor, rope_theta=1_000_000.0),
            sliding_attention=dict(rope_type="default", rope_theta=10_000.0),
        )
    )


def fill(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.3 if parameter.dim() == 1 else 1 / np.sqrt(parameter.shape[-1])
            if "position_embedding" in name or "patch_embedding" in name:
                scale = 0.2
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def folder(name):
    path = os.path.join(OUT, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def write(path, value):
    with open(path, "w") as file:
        json.dump(value, file)


def rounded(tensor):
    return [float(f"{value:.7g}") for value in tensor.detach().float().flatten().tolist()]


def answers(model, greedy=12, **inputs):
    ids = torch.tensor([IDS])
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True, **inputs)
        tokens = list(IDS)
        for _ in range(greedy):
            step = model(input_ids=torch.tensor([tokens]), use_cache=False, **inputs).logits[0, -1]
            tokens.append(int(step.argmax()))
    return {
        "transformers": transformers.__version__,
        "ids": IDS,
        "hidden": rounded(out.hidden_states[-1][0]),
        "logits": rounded(out.logits[0, -1]),
        "greedy": tokens[len(IDS) :],
    }


def text(name, dtype, tokenizer="model", **config):
    path = folder(name)
    model = fill(Gemma3ForCausalLM(Gemma3TextConfig(**{**TEXT, **config})), 1).to(dtype)
    model.generation_config.eos_token_id = [1, 19]
    model.save_pretrained(path, max_shard_size="40KB" if name == "shards" else "100MB")
    if tokenizer == "model":
        shutil.copy(PROTO, os.path.join(path, "tokenizer.model"))
    else:
        save_tokenizer_json(path)
    loaded = Gemma3ForCausalLM.from_pretrained(path, attn_implementation="eager").float().eval()
    write(os.path.join(path, "expected.json"), answers(loaded))


def save_tokenizer_json(path):
    """tokenizer.json alone, from tokenizer.model, as transformers converts it."""
    shutil.copy(PROTO, os.path.join(path, "tokenizer.model"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    os.remove(os.path.join(path, "tokenizer.model"))
    tokenizer.save_pretrained(path)
    settings = os.path.join(path, "tokenizer_config.json")
    with open(settings) as file:
        config = json.load(file)
    for key in ("vocab_file", "is_local", "local_files_only"):
        config.pop(key, None)
    write(settings, config)


def vision(name, dtype):
    path = folder(name)
    text_config = {**TEXT, "vocab_size": VOCABULARY + 8, "num_hidden_layers": 2, **rope(8.0)}
    config = Gemma3Config(
        text_config=text_config,
        vision_config=VISION,
        mm_tokens_per_image=4,
        boi_token_index=67,
        eoi_token_index=68,
        image_token_index=VOCABULARY,
    )
    model = fill(Gemma3ForConditionalGeneration(config), 2).to(dtype)
    model.save_pretrained(path)
    shutil.copy(PROTO, os.path.join(path, "tokenizer.model"))
    write(
        os.path.join(path, "preprocessor_config.json"),
        {
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_pan_and_scan": None,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "Gemma3ImageProcessor",
            "image_seq_length": 4,
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": "Gemma3Processor",
            "resample": 2,
            "rescale_factor": 1 / 255,
            "size": {"height": 16, "width": 16},
        },
    )
    loaded = Gemma3ForConditionalGeneration.from_pretrained(path, attn_implementation="eager").float().eval()
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand((1, 3, 16, 16), generator=generator) * 2 - 1
    ids = [2, 700, 108 - 87, 67, *[VOCABULARY] * 4, 68, 21, 812, 1003, 55]
    types = torch.tensor([[int(token == VOCABULARY) for token in ids]])
    with torch.no_grad():
        out = loaded(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones_like(types),
            token_type_ids=types,
            pixel_values=pixels,
            output_hidden_states=True,
        )
        text_only = loaded(input_ids=torch.tensor([IDS]), output_hidden_states=True)
    write(
        os.path.join(path, "expected.json"),
        {
            "transformers": transformers.__version__,
            "ids": IDS,
            "hidden": rounded(text_only.hidden_states[-1][0]),
            "logits": rounded(text_only.logits[0, -1]),
            "image": {
                "ids": ids,
                "placeholder": VOCABULARY,
                "pixels": rounded(pixels[0].permute(1, 2, 0)),
                "hidden": rounded(out.hidden_states[-1][0]),
                "logits": rounded(out.logits[0, -1]),
            },
        },
    )


def embedder(name):
    from safetensors.torch import save_file

    path = folder(name)
    config = Gemma3TextConfig(**{**TEXT, "num_hidden_layers": 3, "sliding_window": 6}, use_bidirectional_attention=True)
    model = fill(Gemma3TextModel(config), 4)
    model.save_pretrained(path)
    shutil.copy(PROTO, os.path.join(path, "tokenizer.model"))
    write(
        os.path.join(path, "modules.json"),
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
            {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"},
            {"idx": 4, "name": "4", "path": "4_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    os.makedirs(os.path.join(path, "1_Pooling"))
    write(
        os.path.join(path, "1_Pooling", "config.json"),
        {
            "word_embedding_dimension": 16,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_lasttoken": False,
            "include_prompt": True,
        },
    )
    generator = torch.Generator().manual_seed(5)
    layers = []
    for place, (inputs, outputs) in [("2_Dense", (16, 40)), ("3_Dense", (40, 12))]:
        os.makedirs(os.path.join(path, place))
        weight = torch.randn((outputs, inputs), generator=generator) / np.sqrt(inputs)
        layers.append(weight)
        save_file({"linear.weight": weight}, os.path.join(path, place, "model.safetensors"))
        write(
            os.path.join(path, place, "config.json"),
            {
                "in_features": inputs,
                "out_features": outputs,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            },
        )
    write(
        os.path.join(path, "config_sentence_transformers.json"),
        {
            "model_type": "SentenceTransformer",
            "prompts": {
                "query": "task: search result | query: ",
                "document": "title: none | text: ",
            },
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    write(os.path.join(path, "sentence_bert_config.json"), {"max_seq_length": 128, "do_lower_case": False})
    loaded = Gemma3TextModel.from_pretrained(path, attn_implementation="eager").float().eval()
    rows = [IDS, [2, 812, 700, 1], [2, 1]]
    embeddings = []
    with torch.no_grad():
        for ids in rows:
            hidden = loaded(input_ids=torch.tensor([ids])).last_hidden_state[0]
            vector = hidden.mean(0)
            for weight in layers:
                vector = weight @ vector
            embeddings.append(rounded(vector / vector.norm()))
        hidden = rounded(loaded(input_ids=torch.tensor([IDS])).last_hidden_state[0])
    write(
        os.path.join(path, "expected.json"),
        {"transformers": transformers.__version__, "ids": IDS, "hidden": hidden, "rows": rows, "embeddings": embeddings},
    )


def main(cases):
    suffix = f"_{VERSION}" if OLD else ""
    if OLD:
        made = {
            "text": lambda name: text(name, torch.float16, query_pre_attn_scalar=8, **rope(8.0)),
            "vision": lambda name: vision(name, torch.bfloat16),
        }
    else:
        made = {
            "text": lambda name: text(name, torch.bfloat16, query_pre_attn_scalar=4, **rope(8.0)),
            "shards": lambda name: text(
                name,
                torch.float32,
                tokenizer="json",
                query_pre_attn_scalar=8,
                final_logit_softcapping=3.0,
                **rope(1.0),
            ),
            "vision": lambda name: vision(name, torch.float16),
            "embedder": embedder,
        }
    for case, make in made.items():
        if not cases or case in cases:
            make(f"{case}{suffix}")


if __name__ == "__main__":
    main(sys.argv[1:])
