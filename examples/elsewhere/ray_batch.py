"""Answer a corpus on Ray: each worker keeps one `gemma3 generate --jsonl` process, which loads the model once.

The corpus has one JSON object per line: {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}, with an
"id" if you like. Answers are written in the same order, one object per line; a prompt that cannot be answered has an
"error" in its place.

    pip install ray
    python ray_batch.py corpus.jsonl answers.jsonl -- --preset ./gemma3_270m --max-new-tokens 64

What follows `--` are options of `gemma3 generate`. On a cluster, set RAY_ADDRESS; the preset and the package must then
exist at the same paths on every machine.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys

import ray


@ray.remote
class Worker:
    """One process of the command."""

    def __init__(self, command, folder):
        # Errors of the command go to Ray's log, which Ray prints here.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=folder, encoding="utf-8", **pipes)

    def answers(self, lines):
        return [self.answer(line) for line in lines]

    def answer(self, line):
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{self.process.args} ended with exit code {self.process.wait()}; see its message.")
        answer = json.loads(answer)
        # The number of the line among those of this worker.
        answer.pop("line", None)
        return answer


def batches(path, size):
    """The lines of a file that are not empty, a few at a time, so that a corpus may be larger than memory."""
    with open(path, encoding="utf-8", newline="\n") as file:
        lines = (line.strip() for line in file if line.strip())
        while batch := list(itertools.islice(lines, size)):
            yield batch


def in_order(workers, jobs):
    """The answers to all jobs, in their order. Two jobs per worker are under way at a time."""
    pool = ray.util.ActorPool(workers)
    submit = lambda job: pool.submit(lambda worker, lines: worker.answers.remote(lines), job)
    for job in itertools.islice(jobs, 2 * len(workers)):
        submit(job)
    while pool.has_next():
        yield from pool.get_next()
        for job in itertools.islice(jobs, 1):
            submit(job)


def main():
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        description="Answer a corpus on Ray.", epilog="Options of `gemma3 generate` follow after --."
    )
    parser.add_argument("corpus", help="a file of JSON Lines")
    parser.add_argument("answers", help="the file to write")
    parser.add_argument("--workers", type=int, help="processes that hold the model (default: as many as fit)")
    parser.add_argument("--threads", type=int, default=1, help="threads, and CPUs of Ray, for each of them (default: 1)")
    parser.add_argument("--batch-size", type=int, default=16, help="prompts that a worker gets at a time (default: 16)")
    parser.add_argument("--command", default="npx --no -- gemma3", help="how to run gemma3 (default: %(default)s)")
    args = parser.parse_args(arguments[:split])
    command = [*args.command.split(), "generate", "--jsonl", "--threads", str(args.threads), *arguments[split + 1 :]]

    ray.init()
    fit = max(1, int(ray.cluster_resources()["CPU"]) // args.threads)
    workers = [
        Worker.options(num_cpus=args.threads).remote(command, os.getcwd()) for _ in range(min(args.workers or fit, fit))
    ]
    written = failed = 0
    unfinished = f"{args.answers}.unfinished"
    with open(unfinished, "w", encoding="utf-8", newline="\n") as file:
        for answer in in_order(workers, batches(args.corpus, args.batch_size)):
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            written += 1
            failed += "error" in answer
    os.replace(unfinished, args.answers)
    print(f"{args.answers}: {written} answers of {len(workers)} workers, {failed} errors")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
