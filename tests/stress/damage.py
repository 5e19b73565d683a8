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
"""Damages checkpoints, float and quantised, and states of runs at random: nothing damaged may be believed.

Usage: python -m tests.stress.damage [--count N] [--seconds S] [--seed N]

Every damaged file is given to the functions that load it, which must refuse it in one line or give what they gave
before. A hang of a minute is a traceback here; a crash ends the program.
"""
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np

from src import checkpoint, loading, networks
from src.errors import UserError
from src.identity import Identity
from src.quant.__main__ import save_quantised
from src.quant.calibrate import quantise_network
from src.training.run_folder import STATE, RunFolder
from src.training.step import sgd
from tests.stress.options import parser

IDENTITY = Identity("lenet5_bn", "l1", 10, "mnist")
TASK = SimpleNamespace(train_metrics=("accuracy",), metrics=("accuracy", "top5"), fraction=10_000)
IMAGES = np.random.default_rng(0).standard_normal((16, 1, 32, 32), np.float32)
TIMEOUT = 60


def network():
    ms.set_seed(1)
    return networks.create("lenet5_bn", 10, in_channels=1)


def make(folder):
    """What is damaged: dict of file to the function that loads it and returns what must stay the same."""
    net = network().set_train()
    for _ in range(60):  # for statistics that fit: without them every activation is 0, and no damage changes a logit
        net(ms.Tensor(IMAGES))
    net.set_train(False)
    (folder / "run").mkdir()
    checkpoint.save_parameters(net.parameters_dict(), folder / "float.ckpt", identity=IDENTITY.dumps())
    save_quantised(quantise_network(net, IMAGES, 8), folder / "quantised.ckpt", IDENTITY)
    save_quantised(quantise_network(net, IMAGES, 4, "adderquant"), folder / "groups.ckpt", IDENTITY)
    step = sgd(net, 10, 0.1, 0.9, 0.0)
    with run_folder(folder / "run", resume=False) as run:
        run.begin(step)
        run.save(step, net, {"epoch": 1, "loss": 1.0, "train_accuracy": 0.5, "test_accuracy": 0.25, "test_top5": 0.5,
                             "images_per_second": 1.0})
    loads = {folder / name: logits for name in ("float.ckpt", "quantised.ckpt", "groups.ckpt")}
    return {**loads, **{folder / "run" / name: resumed for name in (STATE, "metrics.csv", "config.yaml")}}


def run_folder(path, resume=True):
    return RunFolder(path, "adder_lenet5_bn_mnist", {"seed": 1}, TASK, IDENTITY.dumps(), 3, resume).opened()


def logits(path):
    options = SimpleNamespace(network="lenet5_bn", layer="l1", dataset="mnist", class_num=10, given=())
    net, identity = loading.load(path, options, "composed")
    return identity, net.set_train(False)(ms.Tensor(IMAGES[:2])).asnumpy().tobytes()


def resumed(path):
    step = sgd(network(), 10, 0.1, 0.9, 0.0)
    with run_folder(path.parent) as run:
        epoch = run.begin(step)
        return epoch, run.best, run.best_value, [value.asnumpy().tobytes() for value in step.get_parameters()]


# ---- damage: the bytes of a file, to others ----

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
        return "refused" if "\n" not in str(error) and str(path.parent) in str(error) else f"unclear: {error}"
    except Exception as error:  # pylint: disable=broad-except
        return f"traceback: {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    if path.suffix == ".csv":  # a digit more or less cannot be told
        return "identical" if got[0] == wanted[0] and got[3] == wanted[3] else "believed"
    return "identical" if got == wanted else "believed"


def hang(*_):
    raise TimeoutError("a minute has passed")


def run(count, seconds, seed, folder):
    """Damage so many files, or for so long; returns a Counter of (way, outcome), the last of which is left files."""
    signal.signal(signal.SIGALRM, hang)
    noise, files, counts, end = random.Random(seed), make(folder), Counter(), time.monotonic() + seconds
    wanted = {path: load(path) for path, load in files.items()}
    contents = {path: path.read_bytes() for path in files}
    present = sorted(folder.rglob("*"))
    for _ in range(count):
        if time.monotonic() > end:
            break
        path = noise.choice(list(files))
        way = damage(path, contents[path], noise)
        found = outcome(files[path], path, wanted[path])
        same = path.read_bytes() == contents[path]
        counts[way, "identical" if found == "believed" and same else found] += 1
        if found not in ("refused", "identical"):
            print(path.name, way, found, flush=True)
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
