"""Makes an int4 model for transformers.js out of a Hugging Face folder, with ONNX Runtime's public builder.

    python onnx_model.py HUGGING_FACE_FOLDER OUT

Needs onnx, onnx_ir, onnxruntime, "onnxruntime-genai<0.12", torch and "transformers<5": later builders expect what
transformers 5 no longer says of Gemma 3. Reads only local files.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import onnx

source, out = sys.argv[1:]
NAME = "model_q4.onnx"

# transformers.js looks for this name, and for its weights in a file that ends in `_data`.
os.makedirs(os.path.join(out, "onnx"))
with tempfile.TemporaryDirectory(dir=out) as built, tempfile.TemporaryDirectory() as cache:
    # The defaults for processors: blocks of 32 weights, activations rounded to 8 bits.
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    command = [*builder, "-i", source, "-o", built, "-p", "int4", "-e", "cpu", "-c", cache]
    subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    model = onnx.load(os.path.join(built, "model.onnx"))
    path = os.path.join(out, "onnx", NAME)
    onnx.save_model(model, path, save_as_external_data=True, location=f"{NAME}_data", size_threshold=1024)

for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
    shutil.copy(os.path.join(source, file), out)
with open(os.path.join(source, "config.json")) as file:
    config = json.load(file)
config["transformers.js_config"] = {"use_external_data_format": {NAME: 1}}
# Last: a folder with this file is complete.
with open(os.path.join(out, "config.json"), "w") as file:
    json.dump(config, file, indent=2)
