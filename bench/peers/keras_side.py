"""KerasHub's side, on JAX unless "kerasBackend" names another of Keras' backends.

    python keras_side.py '{"preset": …, "dtype": …, "prompt": […], "longPrompt": […], …}'

`generate` is one compiled function: it takes the prompt padded to the full length, fills the cache and loops. So
the time per token follows from the difference between two calls of the same shape: one with a short prompt, and one
with a prompt that leaves room for a single token. Compilation counts towards the first token only.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time

STARTED = time.time()
DEFAULTS = {"threads": 2, "runs": 3, "tokens": 128, "startedAt": STARTED * 1000, "kerasBackend": "jax"}
options = {**DEFAULTS, **json.loads(sys.argv[1])}
# XLA and TensorFlow start a thread for each core that the process may use.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options["threads"]])
os.environ["KERAS_BACKEND"] = options["kerasBackend"]
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_hub  # noqa: E402
import numpy as np  # noqa: E402

library = __import__(options["kerasBackend"])


def rss():
    kilobytes = subprocess.check_output(["ps", "-o", "rss=", "-p", str(os.getpid())])
    return int(kilobytes) * 1024


def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def generate(prompt, length):
    """Fill a row of `length` tokens; returns the seconds, and the tokens after the prompt."""
    ids = np.zeros((1, length), "int32")
    ids[0, : len(prompt)] = prompt
    mask = np.arange(length)[None, :] < len(prompt)
    start = time.perf_counter()
    # The inner function of `generate`: KerasHub 0.32 fails around it without a preprocessor, as the images are None.
    row = np.asarray(lm.make_generate_function()({"token_ids": ids, "padding_mask": mask})["token_ids"])
    return time.perf_counter() - start, row[0, len(prompt) :].tolist()


prompt, long_prompt, count = options["prompt"], options["longPrompt"], options["tokens"]
load_start = time.perf_counter()
lm = keras_hub.models.Gemma3CausalLM.from_preset(options["preset"], dtype=options["dtype"])
lm.preprocessor = None
lm.compile(sampler="greedy")
load_seconds = time.perf_counter() - load_start
shortest = prompt if count > 0 else long_prompt
generate(shortest, len(shortest) + 1)
first_token_seconds = time.time() - options["startedAt"] / 1000
rss_after_load = rss()

length = len(prompt) + count + 1
tokens = generate(prompt, length)[1] if count > 0 else []
generate(long_prompt, len(long_prompt) + 1)
full = (prompt + tokens)[: length - 1]
decodes, prefills = [], []
for _ in range(options["runs"]):
    if count > 0:
        decodes.append(generate(prompt, length)[0] - generate(full, length)[0])
    prefills.append(generate(long_prompt, len(long_prompt) + 1)[0])
print(
    json.dumps(
        {
            "loadSeconds": load_seconds,
            "firstTokenSeconds": first_token_seconds,
            "prefillSeconds": statistics.median(prefills),
            "tokensPerSecond": count / statistics.median(decodes) if decodes else None,
            "rssMegabytes": round(rss_after_load / 1e6),
            "peakMegabytes": round(peak() / 1e6),
            "tokens": tokens,
            "weightBytes": sum(np.prod(w.shape) * (2 if "16" in w.dtype else 4) for w in lm.backbone.weights).item(),
            "version": f"keras-hub {keras_hub.__version__}, {library.__name__} {library.__version__}",
        }
    )
)
