"""Train LoRA on many accelerators, with KerasHub on JAX, and bring the result back.

The preset is one that KerasHub or tfjs-gemma3 saved, the data are JSON Lines as `gemma3 finetune` reads them:
{"prompt": "…", "response": "…"}. What is written works in both: a `.lora.h5`, and a preset if one is asked for.

    pip install keras keras-hub tensorflow "jax[cpu]"    # or jax[tpu], jax[cuda13]
    python train_on_jax.py --preset ./gemma3_270m --data emails.jsonl --output emails.lora.h5 --mesh 2x4

Without accelerators, XLA_FLAGS=--xla_force_host_platform_device_count=8 makes eight devices of the CPU, to try it.
"""

import argparse
import json
import os

os.environ["KERAS_BACKEND"] = "jax"


def gemma3_layout_map(
    device_mesh, config, model_parallel_dim_name="model", data_parallel_dim_name="batch"
):
    """How the variables of a `Gemma3Backbone` are divided among devices, as `GemmaBackbone.get_layout_map` does it.

    KerasHub has no such map for Gemma 3. Heads and the inner dimension of feed-forward layers go along the model axis,
    so that a device computes its part of a layer alone. The other large dimension goes along the data axis, to save
    memory. Norms, biases and LoRA are small: each device has a copy.

    Args:
        device_mesh: the `keras.distribution.DeviceMesh`, with both axes.
        config: dict. "config" in the config.json of the preset.
        model_parallel_dim_name: string. The axis of the mesh along which layers are divided.
        data_parallel_dim_name: string. The axis of the mesh along which batches are divided.

    Returns:
        A `keras.distribution.LayoutMap`. A dimension that an axis cannot divide evenly is not divided: the two heads of
        keys of a small model, for example, over four devices.
    """
    import keras

    sizes = dict(zip(device_mesh.axis_names, device_mesh.shape))
    model, data = model_parallel_dim_name, data_parallel_dim_name
    for axis in (model, data):
        if axis not in sizes:
            raise ValueError(f"Expected a mesh with the axis {axis!r}. Received: {device_mesh.axis_names}.")

    layout_map = keras.distribution.LayoutMap(device_mesh)

    def divide(path, shape, axes):
        axes = tuple(axis if axis and size % sizes[axis] == 0 else None for size, axis in zip(shape, axes))
        layout_map[f"{path}$"] = axes

    hidden, head = config["hidden_dim"], config["head_dim"]
    heads, key_heads = config["num_query_heads"], config["num_key_value_heads"]
    inner = config["intermediate_dim"]
    block = r"decoder_block_\d+"
    divide("token_embedding/embeddings", (config["vocabulary_size"], hidden), (model, data))
    divide(f"{block}/attention/query/kernel", (heads, hidden, head), (model, data, None))
    divide(f"{block}/attention/(key|value)/kernel", (key_heads, hidden, head), (model, data, None))
    divide(f"{block}/attention/attention_output/kernel", (heads, head, hidden), (model, None, data))
    divide(f"{block}/ffw_gating(_2)?/kernel", (hidden, inner), (data, model))
    divide(f"{block}/ffw_linear/kernel", (inner, hidden), (model, data))

    if config["vision_encoder"] is not None:
        vision = config["vision_encoder"]["config"]
        width, inner = vision["hidden_dim"], vision["intermediate_dim"]
        block = r"encoder_block_\d+"
        attention = f"{block}/multi_head_attention"
        divide(f"{attention}/(query|key|value)_proj/kernel", (width, width), (data, model))
        divide(f"{attention}/out_proj/kernel", (width, width), (model, data))
        divide(f"{block}/mlp_dense_1/kernel", (width, inner), (data, model))
        divide(f"{block}/mlp_dense_2/kernel", (inner, width), (model, data))
        divide("vision_input_projection/kernel", (width, hidden), (data, model))
    return layout_map


def distribute(preset, mesh):
    """Makes Keras divide models over a mesh of (data, model) devices, for all that is created from here on."""
    import keras

    devices = keras.distribution.list_devices()
    if mesh[0] * mesh[1] != len(devices):
        raise SystemExit(f"Expected a mesh of all {len(devices)} devices. Received: {mesh[0]}x{mesh[1]}.")
    with open(os.path.join(preset, "config.json"), encoding="utf-8") as file:
        config = json.load(file)["config"]
    device_mesh = keras.distribution.DeviceMesh(mesh, ("batch", "model"), devices)
    layout_map = gemma3_layout_map(device_mesh, config)
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout_map, batch_dim_name="batch")
    )


def read_examples(path):
    examples = {"prompts": [], "responses": []}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict) or sorted(row) != ["prompt", "response"]:
                raise SystemExit(
                    f'Expected {{"prompt": "…", "response": "…"}} in line {number} of {path}. Received: {line.strip()}'
                )
            examples["prompts"].append(row["prompt"])
            examples["responses"].append(row["response"])
    if not examples["prompts"]:
        raise SystemExit(f"Expected examples in {path}. Received: no lines.")
    return examples


def token_batches(lm, examples, length, batch_size):
    """Token ids, labels and weights, in whole batches: a mesh cannot divide the rest of an epoch."""
    import numpy as np

    tokenize = lm.preprocessor.tokenizer
    pairs = zip(examples["prompts"], examples["responses"])
    # With <bos> and <eos>. The last token is only a label.
    longest = max(len(tokenize(prompt)) + len(tokenize(response)) + 1 for prompt, response in pairs)
    if longest > length:
        raise SystemExit(f"Expected examples of at most {length} tokens. Received: {longest}. Increase --max-length.")
    # Rows without weight teach nothing, and they do not count in the mean.
    rest = -len(examples["prompts"]) % batch_size
    padded = {key: texts + texts[:1] * rest for key, texts in examples.items()}
    x, y, sample_weight = lm.preprocessor(padded, sequence_length=length)
    x = {key: np.array(value) for key, value in x.items()}
    sample_weight = np.array(sample_weight, dtype="float32")
    sample_weight[len(sample_weight) - rest :] = 0
    return x, np.array(y), sample_weight


def bytes_of(variables):
    """Bytes of variables, and how many of them one device holds."""
    values = [variable.value for variable in variables]
    return sum(value.nbytes for value in values), sum(value.addressable_shards[0].data.nbytes for value in values)


def main():
    parser = argparse.ArgumentParser(description="Train LoRA on many accelerators.")
    parser.add_argument("--preset", required=True, help="folder of a preset")
    parser.add_argument("--data", required=True, help='JSON Lines of {"prompt": "…", "response": "…"}')
    parser.add_argument("--output", required=True, help="the .lora.h5 to write")
    parser.add_argument("--output-preset", help="also save the model with LoRA merged into it, in this folder")
    parser.add_argument("--lora", help="a .lora.h5 to continue from")
    parser.add_argument("--mesh", help="devices that divide a batch x devices that divide the model (default: 1xALL)")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--max-length", type=int, default=256, help="tokens of prompt and response together")
    parser.add_argument("--dtype", help="float32, bfloat16 or mixed_bfloat16 (default: the preset's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()

    import keras
    import keras_hub
    import numpy as np

    devices = len(keras.distribution.list_devices())
    mesh = tuple(int(size) for size in args.mesh.split("x")) if args.mesh else (1, devices)
    if args.batch_size % mesh[0]:
        raise SystemExit(f"Expected a --batch-size that {mesh[0]} devices can divide. Received: {args.batch_size}.")
    keras.utils.set_random_seed(args.seed)
    if devices > 1:
        distribute(args.preset, mesh)

    preset = os.path.abspath(args.preset)
    lm = keras_hub.models.Gemma3CausalLM.from_preset(preset, **({"dtype": args.dtype} if args.dtype else {}))
    lm.backbone.enable_lora(args.rank)
    if args.lora:
        lm.backbone.load_lora_weights(args.lora)
    for variable in lm.backbone.trainable_weights:
        # KerasHub would also train biases of vision layers, which are not in a .lora.h5. And LoRA of vision layers
        # learns nothing from texts.
        variable.trainable = "/lora_kernel_" in variable.path and not variable.path.startswith("image_encoder/")

    x, y, sample_weight = token_batches(lm, read_examples(args.data), args.max_length, args.batch_size)
    lm.preprocessor, preprocessor = None, lm.preprocessor
    lm.compile(
        optimizer=keras.optimizers.AdamW(args.learning_rate, weight_decay=0.01, global_clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
        weighted_metrics=[],
    )
    rng = np.random.default_rng(args.seed)
    losses = []
    for epoch in range(args.epochs):
        order = rng.permutation(len(y))
        rows = {key: value[order] for key, value in x.items()}
        history = lm.fit(
            rows, y[order], sample_weight=sample_weight[order], batch_size=args.batch_size, shuffle=False, verbose=0
        ).history
        losses += history["loss"]
        if not args.json:
            print(f"epoch {epoch + 1} of {args.epochs}: loss {losses[-1]:.5f}", flush=True)

    lm.backbone.save_lora_weights(args.output)
    if args.output_preset:
        lm.preprocessor = preprocessor
        lm.save_to_preset(args.output_preset)
    whole, part = bytes_of(lm.backbone.weights)
    if args.json:
        report = {"devices": devices, "mesh": mesh, "losses": losses, "bytes": whole, "bytesPerDevice": part}
        print(json.dumps(report))
    else:
        print(f"{args.output}: {devices} devices, {part / 1e6:.1f} of {whole / 1e6:.1f} MB of weights on each")


if __name__ == "__main__":
    main()
