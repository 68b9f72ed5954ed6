"""Copies a Keras Gemma 3 text preset with its matrices rounded as in llama.cpp's formats, to measure the loss.

Usage:
    python rounded_preset.py PRESET_DIR OUT_DIR --type q4_0|q8_0

The copy holds the values that llama.cpp multiplies with, as float32. `bench/quality.mjs` scores it like any preset.
Needs gguf, h5py, numpy and sentencepiece.
"""

import argparse
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))

import h5py  # noqa: E402
import numpy as np  # noqa: E402
from gguf import GGMLQuantizationType  # noqa: E402
from gguf.quants import dequantize, quantize  # noqa: E402
from make_gguf import WEIGHTS, read_config, read_weight, weight_table  # noqa: E402


def rounded(values, transform, kind):
    """Rounds along the rows of the GGUF tensor, and returns the values in Keras' order."""
    places = transform(np.arange(values.size, dtype=np.int32).reshape(values.shape))
    rows = np.ascontiguousarray(values.reshape(-1)[places])
    result = np.empty(values.size, np.float32)
    result[places.reshape(-1)] = dequantize(quantize(rows, kind), kind).reshape(-1)
    return result.reshape(values.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("preset")
    parser.add_argument("out")
    parser.add_argument("--type", choices=["q4_0", "q8_0"], required=True)
    args = parser.parse_args()
    kind = GGMLQuantizationType[args.type.upper()]
    transforms = dict(weight_table(read_config(args.preset)).values())

    partial = args.out + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(args.preset, partial, ignore=shutil.ignore_patterns(WEIGHTS))
    with h5py.File(os.path.join(args.preset, WEIGHTS)) as source, h5py.File(os.path.join(partial, WEIGHTS), "w") as out:

        def copy(path, item):
            if isinstance(item, h5py.Group):
                target = out.require_group(path)
            else:
                values = read_weight(item)
                # llama.cpp rounds only matrices, not norms.
                if path in transforms and values.ndim > 1:
                    values = rounded(values, transforms[path], kind)
                target = out.create_dataset(path, data=values)
            for name, value in item.attrs.items():
                if name != "dtype":
                    target.attrs[name] = value

        source.visititems(copy)
        for name, value in source.attrs.items():
            out.attrs[name] = value
    shutil.rmtree(args.out, ignore_errors=True)
    os.rename(partial, args.out)


main()
