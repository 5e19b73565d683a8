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
"""Damages whatever the programs read at random: nothing damaged may be believed.

Usage: python -m tests.stress.damage [--count N] [--seconds S] [--seed N]

Checkpoints float and quantised, runs, PyTorch's files, data sets, files of options, command lines and archives on their
way. Every damaged file is given to the functions that load it, which must refuse it in one line or give what they gave
before; of files without a checksum (data sets, options, metrics) only the former can be asked. A hang of a minute is a
traceback here; a crash ends the program.
"""
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from src import checkpoint
from src.errors import UserError
from tests.stress.inputs import IDENTITY, make
from tests.stress.options import parser

TIMEOUT = 60


def truncated(content, noise):
    return content[:noise.randrange(len(content))]


def flipped(content, noise):
    content = bytearray(content)
    for _ in range(noise.choice((1, 1, 2, 8))):
        content[noise.randrange(len(content))] ^= 1 << noise.randrange(8)
    return bytes(content)


def zeroed(content, noise):
    start, size = noise.randrange(len(content)), noise.choice((1, 16, 512, 4096))
    return content[:start] + bytes(len(content[start:start + size])) + content[start + size:]


def swapped(content, noise):
    size = noise.choice((1, 16, 512))
    blocks = [content[i:i + size] for i in range(0, len(content), size)]
    i, j = (noise.randrange(len(blocks)) for _ in range(2))
    blocks[i], blocks[j] = blocks[j], blocks[i]
    return b"".join(blocks)


def spliced(path, noise):
    """Save a checkpoint again, with a right checksum and one field that cannot be."""
    fields = {name: value if isinstance(value, str) else value.asnumpy()
              for name, value in checkpoint.load_parameters(path).items()}
    name = noise.choice([*fields, *3 * [name for name in fields if name.rpartition(".")[2] in NONSENSE]])
    value, key = fields.pop(name), name.rpartition(".")[2]
    nonsense = [np.zeros((3, 1, 2)), "text", None, *NONSENSE.get(key, [])]
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        nonsense += [np.where(np.arange(value.size).reshape(value.shape) == noise.randrange(value.size), bad, value)
                     for bad in (np.float32("nan"), np.float32("inf"), np.float32("-inf"))]
        nonsense += [value.astype(np.float64) + 1e-12]
    value = noise.choice(nonsense)
    if value is None and name == "identity":
        value = "{"  # the zoo's have none
    if value is not None:
        fields[name] = value
    extras = {name: value for name, value in fields.items() if isinstance(value, (str, int, float))}
    checkpoint.save_parameters({name: value for name, value in fields.items() if name not in extras}, path, **extras)


NONSENSE = {
    "bits": [8.9, 7, -8, 256, 0], "scheme": ["none", 3], "epoch": [-1, 4, 1.5, float("nan"), 2 ** 40],
    "best": ["../precious_1234.ckpt", "/etc/passwd", "last.ckpt", 3], "best_accuracy": [float("inf"), float("nan"), "x"],
    "identity": ["{}", "[" * 100_000, "null", 3, IDENTITY.dumps().replace("10", "1" + "0" * 12)],
    "group": [np.full(6, 9, np.uint8)], "ratio": [np.full(1, -1, np.float32), np.zeros(1, np.float32)],
    "moving_variance": [np.full(6, -1, np.float32)],
}
DAMAGES = (truncated, flipped, zeroed, swapped)


def damage(path, content, noise):
    """Damage a file in one way, which is returned."""
    if path.suffix == ".ckpt" and noise.random() < 0.25:
        spliced(path, noise)
        return "spliced"
    way = noise.choice(DAMAGES)
    path.write_bytes(way(content, noise))
    return way.__name__


def outcome(load, path, wanted):
    """What loading does: refused, identical, believed, or the name of an exception."""
    signal.alarm(TIMEOUT)
    try:
        got = load(path)
    except UserError as error:
        named = path.name == "command_line" or str(path.parent) in str(error)
        return "refused" if "\n" not in str(error) and named else f"unclear: {error}"
    except OSError as error:  # which `errors.run` prints in one line too
        return "refused" if error.filename else f"traceback: {error}"
    except Exception as error:  # pylint: disable=broad-except
        return f"traceback: {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return "identical" if got == wanted else "believed"


def hang(*_):
    raise TimeoutError("a minute has passed")


def run(count, seconds, seed, folder):
    """Damage so many files, or for so long; returns a Counter of (way, outcome), the last of which is left files."""
    signal.signal(signal.SIGALRM, hang)
    noise, files, counts, end = random.Random(seed), make(folder), Counter(), time.monotonic() + seconds
    loads = list(dict.fromkeys(files.values()))
    wanted = {path: load(path) for path, load in files.items()}
    contents = {path: path.read_bytes() for path in files}
    present = sorted(folder.rglob("*"))
    for _ in range(count):
        if time.monotonic() > end:
            break
        load = noise.choice(loads)
        path = noise.choice([path for path in files if files[path] is load])
        way = damage(path, contents[path], noise)
        found = outcome(files[path], path, wanted[path])
        same = path.read_bytes() == contents[path]
        counts[way, "identical" if found == "believed" and same else found] += 1
        if found not in ("refused", "identical"):
            print(path.relative_to(folder), way, found, flush=True)
        counts["left files"] += sorted(folder.rglob("*")) != present
        path.write_bytes(contents[path])
    return counts


def main():
    arguments = parser(__doc__, 500, "damaged files", 3600).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(arguments.count, arguments.seconds, arguments.seed, Path(folder))
    for what, number in sorted(counts.items(), key=str):
        print(number, *([what] if isinstance(what, str) else what))
    sys.exit(any(number for what, number in counts.items() if what[-1] not in ("refused", "identical")))


if __name__ == "__main__":
    main()
