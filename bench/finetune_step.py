"""KerasHub's side of finetune_step.mjs. Reads its options as JSON from FINETUNE_STEP."""

import json
import os
import resource
import sys
import time

options = json.loads(os.environ["FINETUNE_STEP"])
os.environ["KERAS_BACKEND"] = options["backend"]
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import numpy as np  # noqa: E402

batch, length, steps = options["batch"], options["length"], options["steps"]


def preprocessor():
    if options["texts"] is None:
        return None
    return keras_hub.models.Gemma3CausalLMPreprocessor.from_preset(options["preset"], sequence_length=length)


def batches(lm):
    """For each step: the arguments of train_on_batch, and the number of tokens with a weight."""
    if options["texts"] is None:
        i = np.arange(batch * (length + 1), dtype="int64")
        ids = (1000 + (i * 7919 + (i >> 3) * 104729) % 200000).astype("int32").reshape(batch, length + 1)
        x = {"token_ids": ids[:, :-1], "padding_mask": np.ones((batch, length), "int32")}
        return [((x, ids[:, 1:]), batch * length)] * (steps + 1)
    with open(options["texts"], encoding="utf8") as file:
        texts = json.load(file)
    step_inputs = []
    for step in range(steps + 1):
        x = {name: rows[step * batch : (step + 1) * batch] for name, rows in texts.items()}
        _, _, weights = lm.preprocessor(x)
        step_inputs.append(((x,), int(np.sum(weights))))
    return step_inputs


lm = keras_hub.models.Gemma3CausalLM.from_preset(
    options["preset"], preprocessor=preprocessor(), dtype=options["dtype"]
)
lm.backbone.enable_lora(4)
for variable in lm.trainable_variables:
    if variable.path.endswith("_a"):
        variable.assign((np.sin(np.arange(np.prod(variable.shape))) / 10).reshape(variable.shape))
lm.compile(
    optimizer=keras.optimizers.Adam(5e-5),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    weighted_metrics=[],
    jit_compile=True,
)
inputs = batches(lm)
times, losses = [], []
for arguments, _ in inputs:
    start = time.perf_counter()
    losses.append(float(np.ravel(lm.train_on_batch(*arguments))[0]))
    times.append((time.perf_counter() - start) * 1000)
unit = 1 if sys.platform == "darwin" else 1024
print(
    json.dumps(
        {
            "times": times,
            "losses": losses,
            "weighted": [count for _, count in inputs],
            "seen": [batch * length for _ in inputs],
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        }
    )
)
