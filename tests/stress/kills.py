# Copyright 2026 The AdderNGD for MindSpore Authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
# http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
# ============================================================================
"""Kills programs at random moments, runs them again, and compares what they leave in the end, bit for bit.

Usage: python -m tests.stress.kills [--count N] [--seconds S] [--seed N]

Programs: train.py alone, train.py with teacher and student, src.quant and export.py, on generated data, and
download_data.sh, from a server here that takes its time. Each is run once without a kill, which says how long it takes
and what it must leave. Half of the kills come when the first file is there, since before that nothing can be lost.
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
from mindspore import nn

from tests.stress.options import parser
from tests.test_download import Server, Shop

ROOT = Path(__file__).resolve().parents[2]
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
CPU = ["--device_target", "CPU"]
TRAIN = ["train.py", *CPU, "--dataset", "synthetic", "--data_path", "{home}", "--network", "lenet5_bn", "--epoch_size",
         "2", "--resume", "--output_path"]
NGD = ["--method", "ngd", "--teacher", "l2", "--inter_weight", "0.1", "--logits_weight", "1"]
PROGRAMS = {
    "alone": [*TRAIN, "{out}/run"],
    "teacher and student": [*TRAIN, "{out}/run", *NGD],
    "quant": ["-m", "src.quant", *CPU, "--checkpoint_file_path", "{home}/net.ckpt", "--data_path", "{home}",
              "--calibration_size", "64", "--output", "{out}/int8.ckpt"],
    "export": ["export.py", *CPU, "--checkpoint_file_path", "{home}/net.ckpt", "--batch_size", "1", "--file_name",
               "{out}/net"],
}


def files_in(folder):
    """Files in it at this moment; a program may be removing them."""
    return sum(len(files) for _, _, files in os.walk(folder))


def programs(home, shop):
    """Name of a program to the function that starts it, given the folder where it leaves everything."""
    def starter(words):
        return lambda out: subprocess.Popen(
            [sys.executable, *(word.format(home=home, out=out) for word in words)], cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return {**{name: starter(words) for name, words in PROGRAMS.items()},
            "download": lambda out: shop.start("all", out)}


def finish(start, out):
    """Run a program to its end; returns the seconds until its first file, and until its end."""
    began, first = time.monotonic(), None
    process = start(out)
    while process.poll() is None:
        if first is None and files_in(out):
            first = time.monotonic() - began
        time.sleep(0.01)
    errors = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {errors[-2000:]}")
    return first or 0.0, time.monotonic() - began


def content(out):
    """What a program has left: path to bytes; of metrics.csv all but the speed, of a model what it gives, of pictures their
    names."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        value = path.read_bytes()
        if path.name == "metrics.csv":
            value = [line.rpartition(b",")[0] for line in value.splitlines()]
        if path.suffix == ".mindir":
            value = nn.GraphCell(ms.load(str(path)))(ms.Tensor(IMAGE)).asnumpy().tobytes()
        found[str(path.relative_to(out))] = None if path.suffix == ".png" else value
    return found


def run(count, seconds, seed, folder):
    """Kill so many times, or for so long; returns a Counter of (program, what became of it)."""
    noise, counts, end = random.Random(seed), Counter(), time.monotonic() + seconds
    home = folder / "home"
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        server.hold = SimpleNamespace(wait=lambda _: time.sleep(0.2))
        starts = programs(home, Shop(folder / "shop", server))
        finish(starts["alone"], home)
        shutil.copy(home / "run" / "last.ckpt", home / "net.ckpt")
        wanted, lasted = {}, {}
        for name, start in starts.items():
            (folder / "whole").mkdir()
            lasted[name] = finish(start, folder / "whole")
            wanted[name] = content(folder / "whole")
            shutil.rmtree(folder / "whole")
            print(f"{name}: first file after {lasted[name][0]:.1f} s, ended after {lasted[name][1]:.1f}", flush=True)
        for number in range(count):
            if time.monotonic() > end:
                break
            name, out = list(starts)[number % len(starts)], folder / "killed"
            out.mkdir()
            first, last = lasted[name]
            kill(starts[name], out, noise.uniform(noise.choice((0, first)), last))
            before = files_in(out)
            try:
                finish(starts[name], out)
                outcome = "same bits" if content(out) == wanted[name] else "OTHER BITS"
            except RuntimeError as error:
                outcome = f"NOT RESUMED, {error}"
            counts[name, outcome, "nothing written at the kill" if not before else "files there at the kill"] += 1
            print(f"{number + 1}: {name}, {before} files at the kill, then {outcome}", flush=True)
            shutil.rmtree(out)
    return counts


def kill(start, out, moment):
    process = start(out)
    time.sleep(moment)
    process.kill()
    process.communicate()


def main():
    arguments = parser(__doc__, 10, "kills, of the programs in turn", 3600).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(arguments.count, arguments.seconds, arguments.seed, Path(folder))
    for what, number in sorted(counts.items()):
        print(number, *what, sep=", ")
    sys.exit(any(outcome != "same bits" for _, outcome, _ in counts))


if __name__ == "__main__":
    main()
