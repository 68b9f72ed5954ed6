"""Writes test/fixtures/images: what KerasHub's Gemma3ImageConverter makes of images, and TensorFlow of files.

    python test/reference/make_image_fixtures.py

`converter.json` describes the cases; `converter.bin` holds the results as little-endian float32, one after the other.
The images are those of `picture` below, which test/support/picture.ts repeats. `files.json` holds small PNG and JPEG
files of all kinds, with the pixels that `tf.io.decode_png(channels=3)` and `tf.io.decode_jpeg(channels=3)` decode, both
in base64.
"""

import base64
import json
import os
import struct
import zlib

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras_hub
import numpy as np
import tensorflow as tf

FOLDER = os.path.join(os.path.dirname(__file__), "..", "fixtures", "images")
Converter = keras_hub.layers.Gemma3ImageConverter
GEMMA = {"scale": 1 / 127.5, "offset": -1}


def picture(height, width, dtype="uint8", channels=3):
    """Numbers that differ from pixel to pixel and are never smooth."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    values = (y * 73 + x * 151 + c * 87 + (y * x) % 97 * 31) % 256
    # A fraction, so that floats are not whole numbers.
    return (values + (0.3125 if dtype == "float32" else 0)).astype(dtype)


# === Converter ===

SIZES = [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (6, 6), (12, 12), (13, 9), (9, 13), (24, 6), (6, 25), (31, 29)]
SIZES += [(64, 5)]
TARGETS = [(6, 6), (4, 9), (9, 4), (1, 1), (11, 13)]


def converter_cases():
    for size in SIZES:
        for target in TARGETS:
            for dtype in ("uint8", "float32"):
                yield size, dtype, {"image_size": target, "crop_to_aspect_ratio": False, **GEMMA}
                yield size, dtype, {"image_size": target, **GEMMA}
            padded = {"image_size": target, "pad_to_aspect_ratio": True, "crop_to_aspect_ratio": False}
            # KerasHub cannot pad integer images.
            yield size, "float32", {**padded, **GEMMA}
    other = {"crop_to_aspect_ratio": False}
    for interpolation in ("nearest", "bicubic", "lanczos3", "lanczos5", "bilinear"):
        for antialias in (False, True):
            for size in ((1, 1), (2, 3), (7, 5), (30, 22), (6, 40)):
                for target in ((6, 6), (9, 4), (13, 17)):
                    for dtype in ("uint8", "float32"):
                        config = {"image_size": target, "interpolation": interpolation, "antialias": antialias}
                        yield size, dtype, {**config, **other}
    for dtype in ("uint8", "int32", "float32"):
        yield (5, 8), dtype, {}
        yield (5, 8), dtype, {"image_size": (3, 4)}
        yield (5, 8), dtype, {"scale": [0.5, 0.25, 2.0], "offset": [1.0, -2.0, 0.125]}
        yield (5, 8), dtype, {"image_size": (4, 3), "scale": 0.1}
    yield (5, 8), "float32", {"image_size": (4, 3), "offset": -0.7}
    # The size of the published models.
    yield (300, 417), "uint8", {"image_size": (224, 224), **GEMMA}
    yield (640, 360), "uint8", {"image_size": (96, 96), "crop_to_aspect_ratio": False, **GEMMA}


def make_converter():
    cases, values = [], []
    for size, dtype, config in converter_cases():
        output = Converter(**config)(picture(*size, dtype))
        cases.append({
            "size": size, "dtype": dtype, "config": config,
            "shape": list(output.shape), "integer": np.issubdtype(np.asarray(output).dtype, np.integer),
        })
        values.append(np.asarray(output).astype("<f4").ravel())
    # KerasHub cannot reorder a single number.
    first = {"image_size": (4, 6), "data_format": "channels_first", "scale": [0.1, 0.2, 0.3], "offset": [-1, 0, 1]}
    output = Converter(**first)(picture(7, 9).transpose(2, 0, 1))
    cases.append({"size": (7, 9), "dtype": "uint8", "config": first, "shape": list(output.shape), "integer": False})
    values.append(np.asarray(output).astype("<f4").ravel())
    text = ",\n".join(json.dumps(case) for case in cases)
    with open(os.path.join(FOLDER, "converter.json"), "w") as file:
        file.write(f"[\n{text}\n]\n")
    with open(os.path.join(FOLDER, "converter.bin"), "wb") as file:
        file.write(np.concatenate(values).tobytes())
    print(len(cases), "conversions")


# === PNG ===

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def paeth(a, b, c):
    p = a + b - c
    distance = [abs(p - a), abs(p - b), abs(p - c)]
    return (a, b, c)[distance.index(min(distance))]


def filtered(rows, step):
    """Filters rows of bytes with all five filters in turn."""
    above = bytes(len(rows[0]))
    result = b""
    for number, row in enumerate(rows):
        kind = number % 5
        line = bytearray()
        for i, value in enumerate(row):
            a, b, c = (row[i - step] if i >= step else 0), above[i], (above[i - step] if i >= step else 0)
            line.append((value - (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]) % 256)
        result += bytes([kind]) + bytes(line)
        above = row
    return result


def packed(samples, depth):
    """Packs one row of samples into bytes."""
    if depth == 16:
        return np.asarray(samples, ">u2").tobytes()
    bits = "".join(format(int(sample), f"0{depth}b") for sample in samples)
    return bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))


def png(height, width, colour, depth, interlaced=False, extra=b"", parts=1):
    rng = np.random.default_rng(height * 100 + width + colour * 7 + depth)
    image = rng.integers(0, 2**depth, (height, width, SAMPLES[colour]))
    palette = b""
    if colour == 3:
        palette = chunk(b"PLTE", rng.integers(0, 256, (2**depth, 3)).astype("uint8").tobytes())
    data = b""
    for x, y, dx, dy in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        part = image[y::dy, x::dx]
        if part.size:
            rows = [packed(row.ravel(), depth) for row in part]
            data += filtered(rows, max(1, depth * SAMPLES[colour] // 8))
    data = zlib.compress(data)
    pieces = [data[len(data) * i // parts : len(data) * (i + 1) // parts] for i in range(parts)]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + extra
        + b"".join(chunk(b"IDAT", piece) for piece in pieces) + chunk(b"IEND", b"")
    )


def png_files():
    for colour, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            for interlaced in (False, True):
                name = f"PNG, colour type {colour}, {depth} bits{', interlaced' * interlaced}"
                yield name, png(11, 7, colour, depth, interlaced)
    yield "PNG of one pixel", png(1, 1, 2, 8)
    yield "PNG of one pixel, interlaced", png(1, 1, 2, 8, True)
    yield "PNG of one row", png(1, 9, 6, 8)
    alpha = chunk(b"tRNS", bytes(range(16)))
    yield "PNG in pieces with a palette that has alpha", png(6, 5, 3, 4, extra=alpha, parts=3)
    yield "PNG with a transparent colour and a gamma", png(
        6, 5, 2, 8, extra=chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"tRNS", bytes(6))
    )


# === JPEG ===


def smooth(height, width):
    """What JPEG is designed for: waves, with an edge."""
    y, x = np.mgrid[0:height, 0:width].astype("float64")
    red = 128 + 100 * np.sin(x / 5) * np.cos(y / 7)
    green = 128 + 90 * np.cos(x / 9 + y / 4)
    blue = np.where(x + y > (height + width) / 2, 220, 30)
    return np.stack([red, green, blue], -1).round().clip(0, 255).astype("uint8")


def jpeg_files():
    encode = tf.io.encode_jpeg
    yield "JPEG, 4:2:0", encode(smooth(37, 45), quality=90)
    yield "JPEG, 4:4:4", encode(smooth(37, 45), quality=95, chroma_downsampling=False)
    yield "JPEG, progressive", encode(smooth(40, 23), progressive=True, quality=85)
    yield "JPEG, progressive 4:4:4", encode(smooth(16, 16), progressive=True, chroma_downsampling=False)
    yield "JPEG, grey", encode(smooth(19, 30)[..., :1], format="grayscale")
    yield "JPEG, low quality", encode(smooth(33, 33), quality=10)
    yield "JPEG of one pixel", encode(smooth(1, 1))
    yield "JPEG of one row", encode(smooth(1, 50))
    yield "JPEG of one column", encode(smooth(50, 1))
    yield "JPEG, 16 x 16", encode(smooth(16, 16), optimize_size=True)
    yield "JPEG, noise", encode(picture(24, 24), quality=100)


def flat_jpeg(width, height, sampling, adobe=None, restart=0, ids=(1, 2, 3, 4)):
    """Writes what no available encoder does: blocks of one colour, any sampling of the components, and restarts."""
    rng = np.random.default_rng(width + height)
    segment = lambda marker, body: bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
    data = b"\xff\xd8"
    if adobe is not None:
        data += segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, adobe))
    data += segment(0xDB, bytes([0]) + bytes([8] * 64))
    heads = b"".join(bytes([ids[i], h * 16 + v, 0]) for i, (h, v) in enumerate(sampling))
    data += segment(0xC0, struct.pack(">BHHB", 8, height, width, len(sampling)) + heads)
    # Nine sizes of DC values with four bits each; AC values have only "end of block", in one bit.
    data += segment(0xC4, bytes([0x00, 0, 0, 0, 9, *[0] * 12, *range(9)]))
    data += segment(0xC4, bytes([0x10, 1, *[0] * 15, 0]))
    data += segment(0xDD, struct.pack(">H", restart))
    scan = b"".join(bytes([ids[i], 0]) for i in range(len(sampling)))
    data += segment(0xDA, bytes([len(sampling)]) + scan + bytes([0, 63, 0]))
    across = -(-width // (8 * max(h for h, _ in sampling)))
    down = -(-height // (8 * max(v for _, v in sampling)))
    bits, before = "", [0] * len(sampling)

    def flushed():
        padded = bits + "1" * (-len(bits) % 8)
        return bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8)).replace(b"\xff", b"\xff\x00")

    for unit in range(across * down):
        if restart and unit and unit % restart == 0:
            data += flushed() + bytes([0xFF, 0xD0 + (unit // restart - 1) % 8])
            bits, before = "", [0] * len(sampling)
        for i, (h, v) in enumerate(sampling):
            for _ in range(h * v):
                mean = int(rng.integers(-128, 128))
                step, before[i] = mean - before[i], mean
                size = abs(step).bit_length()
                value = step if step > 0 else step + 2**size - 1
                bits += format(size, "04b") + (format(value, f"0{size}b") if size else "") + "0"
    return data + flushed() + b"\xff\xd9"


def flat_jpeg_files():
    one = (1, 1)
    for h, v in ((2, 1), (1, 2), (2, 2), (4, 1), (4, 2), (1, 4)):
        yield f"JPEG, flat blocks, {h} x {v}", flat_jpeg(35, 37, [(h, v), one, one])
    yield "JPEG, flat blocks, chroma of two columns", flat_jpeg(3, 3, [(2, 2), one, one])
    yield "JPEG, flat blocks, chroma larger than luma", flat_jpeg(33, 20, [one, (2, 1), (1, 2)])
    yield "JPEG, restarts", flat_jpeg(70, 50, [(2, 2), one, one], restart=3)
    yield "JPEG, restarts in grey", flat_jpeg(90, 20, [one], restart=1)
    yield "JPEG, RGB by the Adobe segment", flat_jpeg(20, 20, [one] * 3, adobe=0)
    yield "JPEG, YCbCr by the Adobe segment", flat_jpeg(20, 20, [one] * 3, adobe=1)
    yield "JPEG, RGB by component ids", flat_jpeg(20, 20, [one] * 3, ids=b"RGB")
    yield "JPEG, CMYK", flat_jpeg(20, 20, [one] * 4)
    yield "JPEG, CMYK by the Adobe segment", flat_jpeg(20, 20, [one] * 4, adobe=0)
    yield "JPEG, YCCK by the Adobe segment", flat_jpeg(20, 20, [(2, 2), one, one, (2, 2)], adobe=2)


def make_files():
    files = []
    encoded = ((name, data.numpy()) for name, data in jpeg_files())
    for name, data in [*png_files(), *encoded, *flat_jpeg_files()]:
        if name.startswith("PNG"):
            pixels = tf.io.decode_png(data, channels=3).numpy()
        else:
            pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        files.append({
            "name": name, "file": base64.b64encode(data).decode(),
            "shape": pixels.shape, "pixels": base64.b64encode(pixels.tobytes()).decode(),
        })
    text = ",\n".join(json.dumps(file) for file in files)
    with open(os.path.join(FOLDER, "files.json"), "w") as file:
        file.write(f"[\n{text}\n]\n")
    print(len(files), "files")


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    make_converter()
    make_files()
