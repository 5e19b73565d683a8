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

Programs: train.py alone, train.py with teacher and student, src.quant and export.py, on generated data. Each is run once
without a kill, which says how long it takes and what it must leave.
"""
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.stress.options import parser

ROOT = Path(__file__).resolve().parents[2]
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


def start(name, home, out):
    out.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, *(part.format(home=home, out=out) for part in PROGRAMS[name])], cwd=ROOT,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(name, home, out):
    """Run a program to its end; returns its seconds."""
    began = time.monotonic()
    process = start(name, home, out)
    errors = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"{name}: exit code {process.returncode}: {errors[-2000:]}")
    return time.monotonic() - began


def content(out):
    """What a program has left: path to bytes; of metrics.csv all but the speed, of pictures and exports their names."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        value = path.read_bytes()
        if path.name == "metrics.csv":
            value = [line.rpartition(b",")[0] for line in value.splitlines()]
        found[str(path.relative_to(out))] = value if path.suffix in (".ckpt", ".yaml", ".csv") else None
    return found


def run(count, seconds, seed, folder):
    """Kill so many times, or for so long; returns a Counter of (program, what became of it)."""
    noise, counts, end = random.Random(seed), Counter(), time.monotonic() + seconds
    home = folder / "home"
    finish("alone", home, home)
    shutil.copy(home / "run" / "last.ckpt", home / "net.ckpt")
    wanted, lasted = {}, {}
    for name in PROGRAMS:
        lasted[name] = finish(name, home, folder / "whole")
        wanted[name] = content(folder / "whole")
        shutil.rmtree(folder / "whole")
    for number in range(count):
        if time.monotonic() > end:
            break
        name, out = list(PROGRAMS)[number % len(PROGRAMS)], folder / "killed"
        process = start(name, home, out)
        time.sleep(noise.uniform(0, lasted[name]))
        counts[name, "killed" if process.poll() is None else "ended before"] += 1
        process.kill()
        process.communicate()
        before = [path for path in out.rglob("*") if path.is_file()]
        try:
            finish(name, home, out)
            equal = "same bits" if content(out) == wanted[name] else "OTHER BITS"
        except RuntimeError as error:
            equal = "NOT RESUMED"
            print(error, flush=True)
        counts[name, equal] += 1
        print(f"{number + 1}: {name}, {len(before)} files at the kill, then {equal}", flush=True)
        shutil.rmtree(out)
    return counts


def main():
    arguments = parser(__doc__, 10, "kills, of the programs in turn", 3600).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(arguments.count, arguments.seconds, arguments.seed, Path(folder))
    for (name, what), number in sorted(counts.items()):
        print(number, name, what)
    sys.exit(any(what.isupper() for _, what in counts))


if __name__ == "__main__":
    main()
