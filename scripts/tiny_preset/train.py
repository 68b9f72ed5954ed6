"""Trains `presets/gemma3_tiny` with KerasHub. See README.md."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import argparse
import io
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import keras
import keras_hub
import numpy as np
import sentencepiece

import data

SEED = 3
VOCABULARY_SIZE = 2048
IMAGE_SIZE = 64
PATCH_SIZE = 8
POOL_SIZE = 2
TOKENS_PER_IMAGE = (IMAGE_SIZE // PATCH_SIZE // POOL_SIZE) ** 2
HIDDEN_DIM = 128
# Text steps per step with pictures.
IMAGE_EVERY = 2
# Batches are padded to one of these lengths: each one is compiled once.
LENGTHS = (16, 24, 32, 48, 64, 96, 128)


# --- Tokenizer ---------------------------------------------------------------


def train_tokenizer(corpus):
    """Trains a SentencePiece model with the layout of Gemma 3's, but few pieces.

    <start_of_turn> and <end_of_turn> have the ids 105 and 106, as in Gemma 3.
    """
    special = ["<mask>", "[multimodal]"]
    special += [f"<unused{i}>" for i in range(99)]
    special += ["<start_of_turn>", "<end_of_turn>"]
    special += ["\n" * i for i in range(1, 32)]
    special += ["\u2581" * i for i in range(2, 32)]
    special += ["<start_of_image>", "<end_of_image>", "<img>"]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY_SIZE,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        user_defined_symbols=special,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def tokenizer_corpus(pairs):
    lines = []
    for prompt, continuation in pairs:
        lines += (prompt + data.visible(continuation)).split("\n")
    rng = np.random.default_rng(SEED)
    for count in (1, 2):
        for prompt, answer in data.image_prompts(count):
            for _ in range(4):
                pictures = [data.random_picture(rng) for _ in range(count)]
                lines += (prompt + data.visible(answer(*pictures))).split("\n")
    # Every printable ASCII character is a piece.
    lines += [chr(i) for i in range(33, 127)]
    return lines


# --- Model -------------------------------------------------------------------


def build(dtype, tokenizer=None):
    vision_encoder = keras_hub.models.Gemma3VisionEncoder(
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        num_heads=4,
        hidden_dim=64,
        num_layers=3,
        intermediate_dim=128,
        output_dim=HIDDEN_DIM,
        pool_size=POOL_SIZE,
        dtype="float32",
    )
    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=VOCABULARY_SIZE,
        image_size=IMAGE_SIZE,
        num_layers=6,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=HIDDEN_DIM,
        intermediate_dim=256,
        head_dim=32,
        query_head_dim_normalize=True,
        use_query_key_norm=True,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        use_sliding_window_attention=True,
        sliding_window_size=32,
        vision_encoder=vision_encoder,
        dtype=dtype,
    )
    preprocessor = None
    if tokenizer:
        preprocessor = keras_hub.models.Gemma3CausalLMPreprocessor(
            tokenizer=keras_hub.models.Gemma3Tokenizer(proto=tokenizer),
            image_converter=keras_hub.layers.Gemma3ImageConverter(
                image_size=(IMAGE_SIZE, IMAGE_SIZE),
                scale=1 / 127.5,
                offset=-1.0,
                interpolation="bilinear",
                crop_to_aspect_ratio=False,
            ),
            sequence_length=256,
            max_images_per_prompt=2,
            num_vision_tokens_per_image=TOKENS_PER_IMAGE,
        )
    return keras_hub.models.Gemma3CausalLM(
        backbone=backbone, preprocessor=preprocessor
    )


def initialize(model):
    """Sets initial values that learn faster than KerasHub's, which expect to be
    replaced by a checkpoint: embeddings of unit size after scaling, and
    residual branches of a fifth of that."""
    backbone = model.backbone
    rng = np.random.default_rng(SEED)
    embeddings = backbone.token_embedding.embeddings
    embeddings.assign(rng.normal(0, HIDDEN_DIM**-0.5, embeddings.shape))
    for layer in backbone.transformer_layers:
        for norm in (layer.post_attention_norm, layer.post_ffw_norm):
            norm.scale.assign(np.full(norm.scale.shape, -0.8))
    # The patch embedding starts as a cosine transform of each colour channel,
    # lowest frequencies first.
    encoder = backbone.vision_encoder
    patches = encoder.get_layer("image_encoder").vision_embeddings
    n = PATCH_SIZE
    x = np.cos(np.pi * (np.arange(n) + 0.5)[:, None] * np.arange(n) / n)
    order = sorted(np.ndindex(n, n), key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv))
    kernel = np.zeros(patches.patch_embedding.kernel.shape)
    for i in range(kernel.shape[-1]):
        u, v = order[i // 3]
        kernel[:, :, i % 3, i] = np.outer(x[:, u], x[:, v]) * 4 / n**2
    patches.patch_embedding.kernel.assign(kernel)
    positions = patches.position_embedding.embeddings
    positions.assign(rng.normal(0, 0.2, positions.shape))
    projection = encoder.get_layer("vision_output_encoder").vision_input_projection
    projection.kernel.assign(
        rng.normal(0, projection.kernel.shape[0] ** -0.5, projection.kernel.shape)
    )


# --- Batches -----------------------------------------------------------------


class Batches:
    def __init__(self, tokenizer, seed):
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
        self.image_id = self.processor.piece_to_id("<img>")
        self.topics = data.make_topics(data.load_facts())
        self.facts = list(self.topics)
        for question, answer in 4 * data.SMALL_TALK:
            self.topics.append(([question], answer, None))
        self.prompts = {count: data.image_prompts(count) for count in (1, 2)}
        self.rng = np.random.default_rng(seed)
        self.cache = {}

    def encode(self, segments):
        ids, weights = [2], [0]
        for text, is_answer in segments:
            piece = self.cache.get(text)
            if piece is None:
                piece = self.processor.encode(data.visible(text))
                if text.endswith(data.END_OF_TEXT):
                    piece = piece + [self.processor.eos_id()]
                self.cache[text] = piece
            ids += piece
            weights += [int(is_answer)] * len(piece)
        return ids, weights

    def pack(self, examples, images):
        longest = max(len(ids) for ids, _ in examples) - 1
        size = next(size for size in LENGTHS if size >= longest)
        shape = (len(examples), size)
        x = {
            "token_ids": np.zeros(shape, "int32"),
            "padding_mask": np.zeros(shape, "int32"),
        }
        y, w = np.zeros(shape, "int32"), np.zeros(shape, "float32")
        for i, (ids, weights) in enumerate(examples):
            n = len(ids) - 1
            x["token_ids"][i, :n] = ids[:-1]
            x["padding_mask"][i, :n] = 1
            y[i, :n] = ids[1:]
            w[i, :n] = weights[1:]
        x["vision_mask"] = (x["token_ids"] == self.image_id).astype("int32")
        x["images"] = images
        x["vision_indices"] = (
            np.nonzero(x["vision_mask"])[1].reshape(len(examples), -1).astype("int32")
        )
        return x, y, w

    def text_epoch(self, batch_size):
        """Yields every fact once, in batches of examples of similar length."""
        order = self.rng.permutation(len(self.topics))
        examples = [
            self.encode(data.sample_turns(self.topics[i], self.facts, self.rng))
            for i in order
        ]
        for start in range(0, len(examples), 8 * batch_size):
            part = sorted(examples[start : start + 8 * batch_size], key=lambda e: len(e[0]))
            for first in range(0, len(part), batch_size):
                batch = part[first : first + batch_size]
                if len(batch) == batch_size:
                    images = np.zeros((batch_size, 0, IMAGE_SIZE, IMAGE_SIZE, 3), "float32")
                    yield self.pack(batch, images)

    def draw(self, pictures):
        scale = 1 + int(self.rng.random() < 0.25)
        return np.array([data.render(p, scale) for p in pictures], "float32") / 127.5 - 1

    def images(self, batch_size, count):
        expanded = (
            f"\n\n{data.IMAGE}" + "<img>" * TOKENS_PER_IMAGE + "<end_of_image>\n\n"
        )
        prompts = self.prompts[count]
        examples, images = [], []
        for _ in range(batch_size):
            pictures = [data.random_picture(self.rng) for _ in range(count)]
            prompt, answer = prompts[self.rng.integers(len(prompts))]
            prompt = prompt.replace(data.IMAGE, expanded)
            examples.append(self.encode([(prompt, False), (answer(*pictures), True)]))
            images.append(self.draw(pictures))
        return self.pack(examples, np.stack(images))

    def labelled_images(self, batch_size):
        pictures = [data.random_picture(self.rng) for _ in range(batch_size)]
        colours, shapes = list(data.COLOURS), data.SHAPES
        labels = [
            (colours.index(p["colour_name"]), len(colours) + shapes.index(p["shape"]))
            for p in pictures
        ]
        images = np.stack([self.draw([picture]) for picture in pictures])
        return images, np.array(labels, "int32")


# --- Training ----------------------------------------------------------------


def nll(logits, labels):
    wanted = jax.nn.one_hot(labels, logits.shape[-1])
    return -(jax.nn.log_softmax(logits) * wanted).sum(axis=-1)


def schedule(peak, steps):
    return keras.optimizers.schedules.CosineDecay(
        1e-5, steps, alpha=0.01, warmup_target=peak, warmup_steps=steps // 20
    )


def pretrain_vision(encoder, batches, steps, batch_size=64):
    """Trains only the vision encoder, to distinguish colours and shapes.

    This takes a tenth of the time of learning the same through the text model.
    """
    colours = len(data.COLOURS)
    head = keras.layers.Dense(colours + len(data.SHAPES))
    head.build((None, HIDDEN_DIM))
    variables = encoder.trainable_variables + head.trainable_variables
    split = len(encoder.trainable_variables)
    fixed = [v.value for v in encoder.non_trainable_variables]
    optimizer = keras.optimizers.Adam(schedule(3e-3, steps), beta_2=0.98, global_clipnorm=1.0)
    optimizer.build(variables)

    def loss_fn(values, images, labels):
        tokens, _ = encoder.stateless_call(values[:split], fixed, images)
        # Similar to an attention layer that attends to the whole image.
        size = jnp.sqrt(jnp.square(tokens).mean(axis=-1, keepdims=True) + 1e-6)
        mean = (tokens / size).mean(axis=1)
        logits, _ = head.stateless_call(values[split:], [], mean)
        parts = logits[:, :colours], logits[:, colours:]
        truth = labels[:, 0], labels[:, 1] - colours
        loss = sum(nll(a, b).mean() for a, b in zip(parts, truth))
        right = [jnp.argmax(a, axis=-1) == b for a, b in zip(parts, truth)]
        return loss, (right[0] & right[1]).mean()

    @jax.jit
    def step(values, state, images, labels):
        (loss, right), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            values, images, labels
        )
        values, state = optimizer.stateless_apply(state, grads, values)
        return values, state, loss, right

    values = [v.value for v in variables]
    state = [v.value for v in optimizer.variables]
    started, log = time.time(), []
    for i in range(1, steps + 1):
        values, state, loss, right = step(values, state, *batches.labelled_images(batch_size))
        log.append((float(loss), float(right)))
        if i % 100 == 0:
            a, b = np.mean(log, axis=0)
            log = []
            print(
                f"vision {i}/{steps}  loss {a:.4f} right {b:.3f}  "
                f"{time.time() - started:.0f} s",
                flush=True,
            )
    for variable, value in zip(variables, values):
        variable.assign(value)


def train(model, batches, epochs, batch_size, image_batch_size):
    per_epoch = len(batches.topics) // batch_size
    total = epochs * (per_epoch + per_epoch // IMAGE_EVERY)
    optimizer = keras.optimizers.Adam(schedule(3e-3, total), beta_2=0.98, global_clipnorm=1.0)
    model.backbone.vision_encoder.trainable = False
    optimizer.build(model.trainable_variables)

    def loss_fn(variables, fixed, x, y, w):
        # The weights are saved as bfloat16: train with their rounded values.
        variables = [
            v + jax.lax.stop_gradient(v.astype("bfloat16").astype("float32") - v)
            for v in variables
        ]
        logits, _ = model.stateless_call(variables, fixed, x, training=True)
        right = jnp.where(w > 0, jnp.argmax(logits, -1) == y, True).all(axis=-1)
        return (nll(logits, y) * w).sum() / w.sum(), right.mean()

    @jax.jit
    def step(variables, fixed, state, x, y, w):
        (loss, right), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            variables, fixed, x, y, w
        )
        variables, state = optimizer.stateless_apply(state, grads, variables)
        return variables, state, loss, right

    variables = [v.value for v in model.trainable_variables]
    fixed = [v.value for v in model.non_trainable_variables]
    state = [v.value for v in optimizer.variables]
    started = time.time()
    for epoch in range(1, epochs + 1):
        text, image = [], []
        for i, batch in enumerate(batches.text_epoch(batch_size)):
            variables, state, loss, right = step(variables, fixed, state, *batch)
            text.append((float(loss), float(right)))
            if i % IMAGE_EVERY:
                continue
            batch = batches.images(image_batch_size, 2 if len(image) % 3 == 2 else 1)
            variables, state, loss, right = step(variables, fixed, state, *batch)
            image.append((float(loss), float(right)))
        (a, b), (c, d) = np.mean(text, axis=0), np.mean(image, axis=0)
        print(
            f"epoch {epoch}/{epochs}  facts: loss {a:.4f} right {b:.3f}  "
            f"images: loss {c:.4f} right {d:.3f}  {time.time() - started:.0f} s",
            flush=True,
        )
    for variable, value in zip(model.trainable_variables, variables):
        variable.assign(value)
    model.backbone.vision_encoder.trainable = True


def save(model, tokenizer, target):
    """Saves the text model as bfloat16 and the vision encoder as float32."""
    values = [np.array(variable) for variable in model.weights]
    keras.utils.clear_session()  # So that names in the files have no number.
    saved = build("bfloat16", tokenizer)
    for variable, value in zip(saved.weights, values, strict=True):
        variable.assign(value)
    scratch = target + ".new"
    shutil.rmtree(scratch, ignore_errors=True)
    saved.save_to_preset(scratch)
    # Gemma3CausalLM has no weights apart from its backbone's.
    path = os.path.join(scratch, "task.weights.h5")
    if os.path.exists(path):
        os.remove(path)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(scratch, target)


def main():
    root = os.path.dirname(os.path.dirname(data.HERE))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=os.path.join(root, "presets", "gemma3_tiny"))
    parser.add_argument("--epochs", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--image-batch", type=int, default=32)
    parser.add_argument("--vision-steps", type=int, default=3000)
    args = parser.parse_args()

    started = time.time()
    keras.utils.set_random_seed(SEED)
    pairs = data.all_questions(data.make_topics(data.load_facts()))
    tokenizer = train_tokenizer(tokenizer_corpus(pairs))
    model = build("float32")
    print(
        f"{model.count_params():,} parameters, {len(pairs)} questions, "
        f"keras {keras.__version__}, keras_hub {keras_hub.__version__}"
    )
    initialize(model)
    encoder = model.backbone.vision_encoder
    pretrain_vision(encoder, Batches(tokenizer, SEED), args.vision_steps)
    train(model, Batches(tokenizer, SEED + 1), args.epochs, args.batch, args.image_batch)
    save(model, tokenizer, os.path.abspath(args.out))
    print(f"trained in {(time.time() - started) / 60:.1f} minutes")
    # Check the saved preset in a separate process.
    check = os.path.join(data.HERE, "check.py")
    sys.exit(subprocess.call([sys.executable, check, os.path.abspath(args.out)]))


if __name__ == "__main__":
    main()
