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
"""Ctrl-C and SIGTERM at random moments of every entry point: how many ended wrongly, said too much or left files.

Usage: python -m tests.stress.interrupts [--count N] [--seconds S] [--seed N]

Each program runs once to its end, in a folder of its own, which says how long it takes; then N times it gets a signal
after a random part of that time. What Python does before the first statement of a program, some hundredths of a
second, is not the program's and is left out.
"""
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.stress.options import parser
from tests.test_convert import torch_state, write_state, write_zip

ROOT = Path(__file__).resolve().parents[2]

START = 0.3  # seconds, of Python itself
CPU = ["--device_target", "CPU"]
SMALL = ["--dataset", "synthetic", *CPU]
PROGRAMS = {
    "train": ["train.py", *SMALL, "--data_path", "..", "--epoch_size", "1", "--output_path", "run"],
    "distillation": ["train.py", "--config_path", "config/adderngd_resnet20_cifar100.yaml", *SMALL, "--data_path", "..",
                     "--network", "lenet5_bn", "--epoch_size", "1", "--output_path", "run"],
    "eval": ["eval.py", *SMALL, "--eval_dataset_path", "..", "--checkpoint_file_path", "../run"],
    "export": ["export.py", *SMALL, "--checkpoint_file_path", "../run", "--batch_size", "1"],
    "quant": ["-m", "src.quant", "--checkpoint_file_path", "../run", "--data_path", "..", "--output", "int8.ckpt",
              "--calibration_size", "128"],
    "convert": ["-m", "src.convert", "../net.pth", "net.ckpt"],
    "cost": ["-m", "src.cost"],
    "predict": ["-m", "src.predict", "ckpt/ablation/curves.png", "--checkpoint_file_path", "../run"],
    "figures": ["-m", "src.figures", "../run", "--data_path", "..", "--output_path", "run"],
}


def start(arguments, folder):
    """A program in a folder, in a process group of its own; names of files of the repository are those."""
    command = [str(ROOT / word) if (ROOT / word).is_file() else word for word in arguments]
    return subprocess.Popen([sys.executable, *command], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
                            start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def interrupt(arguments, folder, number, moment):
    """Faults of a program that gets a signal at a moment, in seconds, as words; and the seconds until it ended."""
    process = start(arguments, folder)
    time.sleep(moment)
    os.killpg(process.pid, number)
    sent = time.monotonic()
    _, errors = process.communicate()
    seconds = time.monotonic() - sent
    if process.returncode == 0:
        return [], 0.0  # it was ready before
    lines = [line for line in errors.splitlines() if "[WARNING]" not in line]
    faults = []
    if process.returncode != 128 + number:
        faults.append(f"exit code {process.returncode}")
    if lines[-1:] != [{signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]] or len(lines) > 1:
        faults.append(f"{len(lines)} lines: {' | '.join(lines[-3:])[:300]}")
    left = [str(path.relative_to(folder)) for path in folder.rglob("*")
            if path.name.endswith(".unfinished") or path.parent == folder and path.name != "run"]
    return faults + ([f"left {', '.join(left)}"] if left else []), seconds


def run(count, seconds, seed, home):
    """Interrupt every program so many times, or until so many seconds have passed; returns the number of faults."""
    chance, end, total = random.Random(seed), time.monotonic() + seconds, 0
    write_state(write_zip, home / "net.pth", torch_state()[0])
    print(f"{'program':14}{'seconds':>9}{'signals':>9}{'faults':>8}{'slowest end, s':>16}", flush=True)
    for name, arguments in PROGRAMS.items():
        folder = home if name == "train" else Path(tempfile.mkdtemp(dir=home))
        began = time.monotonic()
        process = start([word.replace("..", ".") if name == "train" else word for word in arguments], folder)
        errors = process.communicate()[1]
        whole, ends = time.monotonic() - began, []
        if process.returncode:
            raise RuntimeError(f"{name}: exit code {process.returncode}: {errors[-300:]}")
        while len(ends) < count and time.monotonic() < end:
            moment, number = chance.uniform(START, whole), (signal.SIGINT, signal.SIGTERM)[len(ends) % 2]
            ends.append((moment, *interrupt(arguments, Path(tempfile.mkdtemp(dir=home)), number, moment)))
        faulty = sum(bool(faults) for _, faults, _ in ends)
        print(f"{name:14}{whole:9.1f}{len(ends):9}{faulty:8}{max((seconds for *_, seconds in ends), default=0):16.1f}",
              flush=True)
        for moment, faults, _ in ends:
            for fault in faults:
                print(f"  at {moment:.1f} s: {fault}", flush=True)
        total += faulty
    return total


def main():
    arguments = parser(__doc__, 5, "signals to each program", 3600).parse_args()
    with tempfile.TemporaryDirectory() as home:
        sys.exit(bool(run(arguments.count, arguments.seconds, arguments.seed, Path(home))))


if __name__ == "__main__":
    main()
