"""KerasHub's side of finetune_step.mjs, on JAX: what to do comes as JSON in FINETUNE_STEP."""

import json
import os
import resource
import sys
import time

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import keras_hub  # noqa: E402
import numpy as np  # noqa: E402

options = json.loads(os.environ["FINETUNE_STEP"])
batch, length = options["batch"], options["length"]
lm = keras_hub.models.Gemma3CausalLM.from_preset(options["preset"], preprocessor=None, dtype=options["dtype"])
lm.backbone.enable_lora(4)
lm.compile(
    optimizer=keras.optimizers.Adam(5e-5),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    weighted_metrics=[],
    jit_compile=True,
)
i = np.arange(batch * (length + 1), dtype="int64")
ids = (1000 + (i * 7919 + (i >> 3) * 104729) % 200000).astype("int32").reshape(batch, length + 1)
x = {"token_ids": ids[:, :-1], "padding_mask": np.ones((batch, length), "int32")}
y = ids[:, 1:]
times, losses = [], []
for _ in range(options["steps"] + 1):
    start = time.perf_counter()
    losses.append(float(np.ravel(lm.train_on_batch(x, y))[0]))
    times.append((time.perf_counter() - start) * 1000)
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(json.dumps({"times": times[1:], "losses": losses, "peak": peak}))
