"""Hidden states inside a backbone, and a head on top of it that is trained together with LoRA below: KerasHub's numbers.

    KERAS_BACKEND=tensorflow python test/reference/make_head_fixtures.py
"""

import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from keras_hub.models import Gemma3Backbone

FIXTURES = Path(__file__).parent.parent / "fixtures"
PRESET = "backbone/window"
BLOCK = "decoder_block_3"
RANK = 2
RATE = 0.005

INPUTS = {
    "token_ids": np.array([[2, 5, 7, 3, 9], [2, 8, 4, 6, 0]], "int32"),
    "padding_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], "int32"),
}
TARGETS = np.array([[1.0, -1.0], [0.5, 2.0]], "float32")


def wave(shape, start):
    """The same numbers in TypeScript: sin(start + i) / 4."""
    count = int(np.prod(shape))
    return (np.sin(start + np.arange(count)) / 4).astype("float32").reshape(shape)


def lora_layers(backbone):
    """In the order of the weights: by block, queries before values."""
    return [
        layer
        for block in backbone.transformer_layers
        for layer in (block.attention.query_dense, block.attention.value_dense)
    ]


backbone = Gemma3Backbone.from_preset(str(FIXTURES / PRESET), dtype="float32")
part = keras.Model(backbone.inputs, backbone.get_layer(BLOCK).output)
hidden = part.predict(INPUTS, verbose=0)

backbone.enable_lora(RANK)
for i, layer in enumerate(lora_layers(backbone)):
    layer.lora_kernel_a.assign(wave(layer.lora_kernel_a.shape, i))
    layer.lora_kernel_b.assign(wave(layer.lora_kernel_b.shape, 10 + i))
x = keras.layers.GlobalAveragePooling1D()(backbone.get_layer(BLOCK).output)
head = keras.layers.Dense(TARGETS.shape[1], name="head")
model = keras.Model(backbone.inputs, head(x))
head.kernel.assign(wave(head.kernel.shape, 20))
model.compile(optimizer=keras.optimizers.SGD(RATE), loss="mean_squared_error")
losses = [float(model.train_on_batch(INPUTS, TARGETS)) for _ in range(4)]

result = {
    "preset": PRESET,
    "block": BLOCK,
    "rank": RANK,
    "rate": RATE,
    "inputs": {name: value.tolist() for name, value in INPUTS.items()},
    "targets": TARGETS.tolist(),
    "hidden": hidden.tolist(),
    "losses": losses,
    "predictions": model.predict(INPUTS, verbose=0).tolist(),
    "trained": len(model.trainable_weights),
}
(FIXTURES / "head.json").write_text(json.dumps(result))
print(losses, len(model.trainable_weights), part.name)
