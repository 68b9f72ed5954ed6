"""Check that llama.cpp's server answers from a GGUF file of this package as `gemma3 generate` does.

The server is that of llama.cpp in the wheel `xllamacpp` (`pip install xllamacpp`), asked over HTTP at its OpenAI-style
endpoint. Greedy text of several prompts must be the same. Prints one line per prompt and exits with 1 on a difference.

Usage: python check_llama_server.py PRESET FILE.gguf   (after `npm run build`; FILE.gguf is what `gemma3 convert` made
of PRESET)
"""

import json
import os
import subprocess
import sys
import urllib.request

import xllamacpp

CLI = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../dist/cli.js")
PROMPTS = ["What is the capital of France?", "The largest planet is", "Once upon a time"]
NEW_TOKENS = 12


def texts_here(preset):
    lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS)
    options = ["--jsonl", "--strip-prompt", "--max-new-tokens", str(NEW_TOKENS), "--preset", preset]
    done = subprocess.run(["node", CLI, "generate", *options], input=lines, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line)["text"] for line in done.stdout.splitlines()]


def start_server(gguf):
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.n_ctx = 2048
    # Threads of llama.cpp wait busily for each other, which is slow where other programs run.
    params.cpuparams.n_threads = 1
    # A free port.
    params.port = 0
    return xllamacpp.Server(params)


def ask(address, prompt):
    body = {"prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0}
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]["text"]


def main(preset, gguf):
    server = start_server(gguf)
    differ = 0
    for prompt, here in zip(PROMPTS, texts_here(preset)):
        there = ask(server.listening_address, prompt)
        print(f"{prompt!r}: {'the same text' if here == there else 'DIFFERS'}, {there!r}")
        if here != there:
            print(f"  here: {here!r}", file=sys.stderr)
            differ += 1
    return 1 if differ else 0


if __name__ == "__main__":
    code = main(*sys.argv[1:3])
    sys.stdout.flush()
    # The server's threads do not end by themselves.
    os._exit(code)
