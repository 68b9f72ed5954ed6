"""Check the real 270M preset, which this package converted from a GGUF file, with the Python package gguf.

Every weight must have the bits of what `gguf.quants.dequantize` makes of its tensor, rounded to bfloat16, and the
vocabulary the pieces of the file. Prints one line and exits with 1 on any difference.

Usage: python check_real_preset.py   (after `npm run fetch:270m`)
"""

import json
import os
import sys

import gguf
import h5py
import numpy as np
from gguf.quants import dequantize
from sentencepiece import sentencepiece_model_pb2 as spm

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "scripts"))
from make_gguf import VOCABULARY, WEIGHTS, read_config, read_weight, weight_table

PRESET = os.environ.get("GEMMA3_270M", os.path.join(ROOT, "models/gemma3_270m"))


def rounded(values):
    bits = values.astype("<f4").view("<u4").astype("<u8")
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype("<u4").view("<f4")


def differing_weights(tensors):
    names = []
    table = weight_table(read_config(PRESET))
    if set(table) != set(tensors):
        return sorted(set(table) ^ set(tensors))
    with h5py.File(os.path.join(PRESET, WEIGHTS)) as weights:
        for name, (path, transform) in table.items():
            tensor = tensors[name]
            shape = [int(n) for n in tensor.shape[::-1]]
            values = dequantize(tensor.data, tensor.tensor_type).reshape(shape)
            stored = read_weight(weights[path])
            # llama.cpp stores norms as 1 + scale.
            expected, actual = (values - 1, stored) if values.ndim == 1 else (values, transform(stored))
            if rounded(expected).tobytes() != np.ascontiguousarray(actual, "<f4").tobytes():
                names.append(name)
    return names


def differing_pieces(fields):
    tokens, scores, types = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "scores", "token_type"))
    model = spm.ModelProto()
    with open(os.path.join(PRESET, VOCABULARY), "rb") as f:
        model.ParseFromString(f.read())
    if len(model.pieces) != len(tokens):
        return [len(model.pieces)]
    kinds = spm.ModelProto.SentencePiece
    wrong = []
    for i, (piece, token, score, kind) in enumerate(zip(model.pieces, tokens, scores, types)):
        # GGUF has all special tokens as control; in SentencePiece only <pad>, <eos> and <bos> are.
        if i == 3:
            kind = kinds.UNKNOWN
        elif kind == kinds.CONTROL and i > 3:
            kind = kinds.USER_DEFINED
        same = (piece.piece, piece.type) == (token.replace(" ", "\u2581"), kind)
        if not same or (kind == kinds.NORMAL and piece.score != np.float32(score)):
            wrong.append(i)
    return wrong


def main():
    reader = gguf.GGUFReader(PRESET + ".gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    weights, pieces = differing_weights(tensors), differing_pieces(reader.fields)
    print(json.dumps({"tensors": len(tensors), "different weights": weights, "different pieces": pieces[:20]}))
    sys.exit(1 if weights or pieces else 0)


if __name__ == "__main__":
    main()
