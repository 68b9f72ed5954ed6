"""Writes test/fixtures/sampling/expected.json: what KerasHub's samplers choose on presets of test/fixtures/backbone.

    python test/reference/make_sampler_fixtures.py

Needs keras, keras-hub, tensorflow-cpu (see requirements.txt here). KerasHub's beam and contrastive samplers crash on
Gemma3CausalLM, which does not repeat its cache update mask for each beam. Here they get a `next` without a cache, which
runs the whole model on the whole text each time. Scores are computed from the logits of the functional model, since
Gemma3CausalLM has no `score`.
"""

import json
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from make_backbone_fixtures import follow_documentation, numbers

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
LENGTH = 16


def next_without_cache(backbone):
    def hidden_of(prompt):
        return backbone({"token_ids": prompt, "padding_mask": tf.ones_like(prompt)})

    def next(prompt, cache, index):
        hidden = hidden_of(prompt)
        logits = backbone.token_embedding(hidden, reverse=True)
        return logits[:, index - 1], hidden[:, index - 1], cache

    return next, hidden_of


def choose(backbone, sampler, prompt):
    """Continues one prompt; returns all token ids. With all beams, also returns their scores."""
    next, hidden_of = next_without_cache(backbone)
    ids = np.zeros((1, LENGTH), "int32")
    ids[0, : len(prompt)] = prompt
    ids = tf.constant(ids)
    return sampler(
        next=next,
        prompt=ids,
        index=len(prompt),
        mask=tf.constant(np.arange(LENGTH)[None] < len(prompt)),
        hidden_states=hidden_of(ids),
    )


def main():
    expected = {"length": LENGTH, "cases": []}
    for seed, name in enumerate(["post_norms", "window", "everything"]):
        rng = np.random.default_rng(100 + seed)
        folder = os.path.abspath(os.path.join(FIXTURES, "backbone", name))
        backbone = keras_hub.models.Gemma3Backbone.from_preset(folder, dtype="float32")
        follow_documentation(backbone)
        prompts = [rng.integers(1, backbone.vocabulary_size, n).tolist() for n in (3, 7)]
        beams, contrastive = [], []
        for num_beams, temperature in ((1, 1.0), (3, 4.0), (5, 2.0)):
            rows = []
            for prompt in prompts:
                sampler = keras_hub.samplers.BeamSampler(
                    num_beams=num_beams, return_all_beams=True, temperature=temperature
                )
                ids, log_probs = choose(backbone, sampler, prompt)
                rows.append({"token_ids": np.asarray(ids)[0].tolist(), "log_probs": numbers(log_probs)})
            beams.append({"num_beams": num_beams, "temperature": temperature, "rows": rows})
        for k, alpha, temperature in ((5, 0.6, 1.0), (3, 0.3, 4.0), (8, 0.9, 4.0)):
            sampler = keras_hub.samplers.ContrastiveSampler(k=k, alpha=alpha, temperature=temperature)
            rows = [np.asarray(choose(backbone, sampler, prompt))[0].tolist() for prompt in prompts]
            contrastive.append({"k": k, "alpha": alpha, "temperature": temperature, "token_ids": rows})

        with open(os.path.join(folder, "expected.json")) as f:
            forward = json.load(f)
        shape = (forward["batch"], forward["length"])
        ids = np.reshape(forward["token_ids"], shape)
        mask = np.reshape(forward["padding_mask"], shape)
        targets = np.roll(ids, -1, axis=1)
        logits = backbone.token_embedding(backbone({"token_ids": ids, "padding_mask": mask}), reverse=True)
        loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
        expected["cases"].append({
            "name": name,
            "prompts": prompts,
            "beam": beams,
            "contrastive": contrastive,
            "loss": numbers(loss_fn(targets, logits)),
            "gradient": gradient(backbone, ids, mask, targets, loss_fn),
        })
        print(name, beams[1]["rows"][0]["token_ids"][0], contrastive[0]["token_ids"][0])
    with open(os.path.join(FIXTURES, "sampling", "expected.json"), "w") as f:
        json.dump(expected, f)


def gradient(backbone, ids, mask, targets, loss_fn):
    """Gradient of the summed loss with respect to the embeddings, as in the docstring of `GemmaCausalLM.score`."""
    embeddings = backbone.token_embedding(ids)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        x = embeddings * keras.ops.sqrt(float(backbone.hidden_dim))
        for layer in backbone.transformer_layers:
            x = layer(x, padding_mask=mask)
        logits = backbone.token_embedding(backbone.layer_norm(x), reverse=True)
        losses = loss_fn(targets, logits)
    return numbers(tape.gradient(losses, embeddings))


if __name__ == "__main__":
    main()
