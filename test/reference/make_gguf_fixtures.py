"""Writes test/fixtures/gguf/types.gguf: tensors of all number formats that are read, and metadata of all types; and
quantized.gguf: one tensor in all number formats that are written, as `gguf.quants.quantize` makes them.

    python test/reference/make_gguf_fixtures.py

Needs gguf and numpy. A tensor such as "Q4_0" has a neighbour "Q4_0.expected" in F32: what `gguf.quants.dequantize`
makes of it. Blocks are random bytes with scales that are numbers, so every bit of every block counts.
"""

import os
import pathlib

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "gguf"
# Offsets of numbers in half precision in a block.
SCALES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "IQ4_NL": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}
# Ordinary numbers, then zeros, subnormals and the largest.
SPECIAL = np.array([0.0, -0.0, 6e-8, -3e-5, 65504.0, -65504.0], "<f2")


def blocks(rng, name, rows, columns):
    size, length = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    data = rng.integers(0, 256, (rows * columns // size, length), dtype=np.uint8)
    for offset in SCALES[name]:
        scales = (rng.normal(0, 0.1, len(data))).astype("<f2")
        scales[: len(SPECIAL)] = SPECIAL[: len(scales)]
        data[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return data.reshape(rows, -1)


def plain(rng, name, rows, columns):
    values = rng.normal(0, 1, (rows, columns)).astype("<f4")
    if name == "F32":
        return values
    if name == "F16":
        return values.astype("<f2")
    return (values.view("<u4") >> 16).astype("<u2").view(np.uint8).reshape(rows, -1)


def add_metadata(writer):
    for name, value in [
        ("UINT8", 255),
        ("INT8", -128),
        ("UINT16", 65535),
        ("INT16", -32768),
        ("UINT32", 2**32 - 1),
        ("INT32", -(2**31)),
        ("FLOAT32", 0.5),
        ("BOOL", True),
        ("STRING", "grüße, 日本"),
        ("UINT64", 2**64 - 1),
        ("INT64", -(2**63)),
        ("FLOAT64", 0.1),
    ]:
        kind = GGUFValueType[name]
        writer.add_key_value(f"test.{name.lower()}", value, kind)
        if name == "BOOL":
            values = [True, False, True]
        elif name == "STRING":
            values = ["", "a", "▁日"]
        else:
            values = [value, 0, 1]
        writer.add_key_value(f"test.{name.lower()}_array", values, GGUFValueType.ARRAY, kind)
    writer.add_key_value("test.nested", [[1, 2], [3]], GGUFValueType.ARRAY)
    writer.add_key_value("test.small", 7, GGUFValueType.UINT64)


def values_to_quantize():
    """Rows of ordinary numbers, and of what is rounded in a special way: ties, zeros of both signs, small numbers."""
    rng = np.random.default_rng(23)
    rows = [rng.normal(0, size, 64) for size in (1e-7, 1e-3, 0.02, 1, 900)]
    rows += [rng.integers(-127, 128, 64) / 2 for _ in range(4)]
    rows += [rng.integers(-8, 8, 64) + 0.5 for _ in range(2)]
    rows += [np.zeros(64), -np.zeros(64), np.full(64, 1e-12), np.tile([3.0, -3.0], 32), np.tile([-3.0, 3.0], 32)]
    halves = rng.normal(0, 0.05, (8, 64)).astype("<f4").view("<u4") & 0xFFFF0000
    return np.concatenate([np.array(rows, "<f4"), halves.view("<f4")])


def write_quantized():
    path = FOLDER / "quantized.gguf"
    writer = GGUFWriter(path, "test")
    values = values_to_quantize()
    writer.add_tensor("values", values)
    for name in ["F16", "BF16", "Q8_0", "Q4_0"]:
        kind = GGMLQuantizationType[name]
        writer.add_tensor(name, quantize(values, kind), raw_dtype=None if name == "F16" else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(path, os.path.getsize(path), "bytes")


def main():
    write_quantized()
    rng = np.random.default_rng(17)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "types.gguf"
    writer = GGUFWriter(path, "test")
    add_metadata(writer)
    for name in ["F32", "F16", "BF16", *SCALES]:
        kind = GGMLQuantizationType[name]
        rows, columns = (3, 5) if name in ("F32", "F16", "BF16") else (2, 4 * GGML_QUANT_SIZES[kind][0])
        data = (blocks if name in SCALES else plain)(rng, name, rows, columns)
        with np.errstate(over="ignore", invalid="ignore"):
            expected = dequantize(data, kind).astype("<f4").reshape(rows, columns)
        writer.add_tensor(name, data, raw_dtype=None if name in ("F32", "F16") else kind)
        writer.add_tensor(f"{name}.expected", expected)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(path, os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main()
