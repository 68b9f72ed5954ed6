"""Writes test/fixtures/images/damaged.json: damaged and rare files that TensorFlow and Pillow both read, or both refuse.

    python test/reference/make_damaged_image_fixtures.py

`sha256` is that of the pixels, which TensorFlow and Pillow agree on; null if both refuse the file.
"""

import base64
import hashlib
import io
import json
import os
import random
import struct
import zlib

import numpy as np
from make_image_fixtures import FOLDER, chunk, png, smooth
from PIL import Image

import tensorflow as tf


def pixels_of_tensorflow(data):
    try:
        if data[:4] == b"\x89PNG":
            return tf.io.decode_png(data, channels=3).numpy()
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    except tf.errors.InvalidArgumentError:
        return None


def pixels_of_pillow(data):
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (OSError, SyntaxError):
        return None


# === PNG ===


def chunks_of(data):
    at, chunks = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def built(chunks, wrong=()):
    """A PNG file of chunks; those of the kinds in `wrong` have a wrong checksum."""
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        whole = chunk(kind, body)
        data += whole[:-1] + bytes([whole[-1] ^ (kind in wrong)])
    return data


def replaced(chunks, kind, change):
    return built([(name, change(body) if name == kind else body) for name, body in chunks])


def png_files():
    palette, colours = chunks_of(png(6, 5, 3, 4)), chunks_of(png(6, 5, 2, 8))
    text = (b"tEXt", b"Comment\0of a camera")
    rows = zlib.decompress(colours[1][1])
    yield "short palette", replaced(palette, b"PLTE", lambda body: body[:21])
    yield "palette of one colour", replaced(palette, b"PLTE", lambda body: body[:3])
    yield "long palette", replaced(palette, b"PLTE", lambda body: body + bytes(range(30)))
    yield "palette with a wrong checksum", built(palette, [b"PLTE"])
    yield "palette in a grey image", built([*chunks_of(png(6, 5, 0, 8))[:1], palette[1], *chunks_of(png(6, 5, 0, 8))[1:]])
    yield "text with a wrong checksum", built([*colours[:-1], text, colours[-1]], [b"tEXt"])
    yield "header with a wrong checksum", built(colours, [b"IHDR"])
    yield "rows below the image", replaced(colours, b"IDAT", lambda _: zlib.compress(rows + bytes(100_000)))
    yield "too few rows", replaced(colours, b"IDAT", lambda _: zlib.compress(rows[:-3]))
    yield "compressed data with a wrong checksum", replaced(
        colours, b"IDAT", lambda body: body[:-1] + bytes([body[-1] ^ 1])
    )
    yield "bytes after the compressed data", replaced(colours, b"IDAT", lambda body: body + b"bytes")
    yield "pixels without compressed data after them", built([*colours[:-1], (b"IDAT", b"bytes"), colours[-1]])
    yield "no pixels in the first part", built([colours[0], (b"IDAT", b""), *colours[1:]])
    half = len(colours[1][1]) // 2
    first, second = (b"IDAT", colours[1][1][:half]), (b"IDAT", colours[1][1][half:])
    yield "pixels in two parts", built([colours[0], first, second, colours[2]])
    yield "text between two parts of the pixels", built([colours[0], first, text, second, colours[2]])
    yield "an empty part after the text", built([colours[0], first, text, (b"IDAT", b""), second, colours[2]])
    yield "text and other pixels after the pixels", built([*colours[:2], text, (b"IDAT", b"bytes"), colours[2]])
    yield "compressed data without a header", replaced(colours, b"IDAT", lambda body: body[2:-4])
    yield "unknown text", built([colours[0], (b"abCd", b"text"), *colours[1:]])
    yield "unknown filter method", replaced(colours, b"IHDR", lambda body: body[:11] + b"\1" + body[12:])
    yield "unknown kind of interlacing", replaced(colours, b"IHDR", lambda body: body[:12] + b"\2")
    yield "unknown filter of a row", replaced(colours, b"IDAT", lambda _: zlib.compress(b"\5" + rows[1:]))
    yield "bytes after the end", built(colours) + b"bytes" * 5


# === JPEG ===


def encoded(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


def segments_of(data):
    """The segments of the header, and the rest."""
    at, segments = 2, []
    while not segments or segments[-1][1] != 0xDA:
        end = at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        segments.append(data[at:end])
        at = end
    return segments, data[at:]


def without(data, marker):
    segments, rest = segments_of(data)
    return b"\xff\xd8" + b"".join(one for one in segments if one[1] != marker) + rest


def restarts_of(data):
    start = len(data) - len(segments_of(data)[1])
    return [i for i in range(start, len(data)) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]


def without_restarts(data, numbers):
    at = restarts_of(data)
    for number in sorted(numbers, reverse=True):
        data = data[: at[number]] + data[at[number] + 2 :]
    return data


def jpeg_files():
    image = smooth(37, 45)
    plain = encoded(image, quality=85)
    progressive = encoded(image, quality=85, progressive=True)
    restarts = {
        "restarts": encoded(image, quality=85, restart_marker_blocks=1),
        "progressive with restarts": encoded(image, quality=85, restart_marker_blocks=1, progressive=True),
        "grey with restarts": encoded(image[..., 0], quality=85, restart_marker_rows=1),
    }
    dht, dqt, end = 0xC4, 0xDB, b"\xff\xd9"
    yield "no Huffman tables", without(plain, dht)
    yield "no Huffman tables, 4:4:4", without(encoded(image, quality=95, subsampling=0), dht)
    yield "no Huffman tables, grey", without(encoded(image[..., 0]), dht)
    yield "no Huffman tables, restarts", without(restarts["restarts"], dht)
    yield "no Huffman tables, progressive", without(progressive, dht)
    yield "no quantization tables", without(plain, dqt)
    for name, data in restarts.items():
        at = restarts_of(data)
        yield f"{name}: the first is missing", without_restarts(data, [0])
        yield f"{name}: the third is missing", without_restarts(data, [2])
        yield f"{name}: the last is missing", without_restarts(data, [len(at) - 1])
        yield f"{name}: two are missing", without_restarts(data, [1, 2])
        yield f"{name}: three are missing", without_restarts(data, [0, 1, 2])
        yield f"{name}: all are missing", without_restarts(data, range(len(at)))
        yield f"{name}: one interval is missing", data[: at[1]] + data[at[2] :]
        yield f"{name}: two intervals are missing", data[: at[1]] + data[at[3] :]
        yield f"{name}: bytes before one", data[: at[1]] + b"\x12\x34\xff\x00\x56" + data[at[1] :]
        yield f"{name}: fill bytes before one", data[: at[1]] + b"\xff\xff\xff" + data[at[1] :]
        yield f"{name}: a byte before one is missing", data[: at[1] - 2] + data[at[1] - 1 :]
        for marker in (0x01, 0x55, 0xD0, 0xD3, 0xD4, 0xD5, 0xD7):
            yield f"{name}: the third is {marker:x}", data[: at[2] + 1] + bytes([marker]) + data[at[2] + 2 :]
    start = len(plain) - len(segments_of(plain)[1])
    yield "the end comes too early", plain[: (start + len(plain)) // 2] + end
    yield "progressive, the end comes too early", progressive[: len(progressive) * 9 // 10] + end
    for name, data in (("plain", plain), ("progressive", progressive)):
        yield f"{name}: no end", data[:-2]
        yield f"{name}: cut", data[: len(data) * 9 // 10]
        yield f"{name}: bytes after the end", data + b"bytes"
    numbers = random.Random(1)
    for _ in range(40):
        at, value = numbers.randrange(start, len(plain) - 2), numbers.randrange(256)
        yield f"byte {at} is {value}", plain[:at] + bytes([value]) + plain[at + 1 :]


if __name__ == "__main__":
    files = []
    for kind, some in (("PNG", png_files()), ("JPEG", jpeg_files())):
        for name, data in some:
            one, other = pixels_of_tensorflow(data), pixels_of_pillow(data)
            assert np.array_equal(one, other), name
            sha256 = None if one is None else hashlib.sha256(one.tobytes()).hexdigest()
            files.append({"name": f"{kind}, {name}", "file": base64.b64encode(data).decode(), "sha256": sha256})
    text = ",\n".join(json.dumps(file) for file in files)
    with open(os.path.join(FOLDER, "damaged.json"), "w") as file:
        file.write(f"[\n{text}\n]\n")
    print(len(files), "files")
