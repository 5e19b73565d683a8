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
"""Trains a network of all our layers in mixed precision, in every form and mode, and compares its loss with float32's.

Usage: python -m tests.stress.precision [--count N] [--seconds S] [--seed N]

N steps, each on new images. The noise is float32's own: what five of its runs differ by that begin with other weights.
"""
import os
import sys
import tempfile
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from tests.stress.options import parser

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_mixed_precision import MODES, WAYS, Loss, Net  # noqa: E402

LAST = 20  # steps, whose mean loss is compared


def images(random):
    """Two classes of noise that differ a little in the first row."""
    labels = random.integers(0, 2, 16).astype(np.int32)
    x = random.standard_normal((16, 1, 7, 5)).astype(np.float32)
    x[:, :, 0] += 0.7 * labels[:, None, None]
    return ms.Tensor(x), ms.Tensor(labels)


def final_loss(count, seed, backend="kernel", mode="GRAPH", way=lambda net: net, stem=True):
    """Mean loss of the last steps. Raises AssertionError if a parameter is not finite."""
    ms.set_context(mode=MODES[mode])
    ms.set_seed(seed)
    net = way(Net(backend, stem))
    step = nn.TrainOneStepCell(Loss(net), nn.SGD(net.trainable_params(), 0.02, momentum=0.9)).set_train()
    random = np.random.default_rng(0)
    losses = [step(*images(random)).asnumpy().item() for _ in range(count)]
    assert all(np.isfinite(parameter.asnumpy()).all() for parameter in net.get_parameters())
    return np.mean(losses[-LAST:])


def main():
    arguments = parser(__doc__, 100, "steps of training", 3600).parse_args()
    count, seed, end, bad = arguments.count, arguments.seed, time.monotonic() + arguments.seconds, 0
    plain = {stem: [final_loss(count, seed + i, stem=stem) for i in range(5)] for stem in (True, False)}
    for stem, losses in plain.items():
        print(f"float32 {'with' if stem else 'without'} a convolution, five seeds:", *(f"{loss:.4f}" for loss in losses))
    for name, way in WAYS.items():
        stem = name != "bfloat16"
        for backend in ("kernel", "composed"):
            for mode in MODES:
                if time.monotonic() > end:
                    sys.exit("out of time")
                loss = final_loss(count, seed, backend, mode, way, stem)
                wrong = abs(loss - plain[stem][0]) > np.ptp(plain[stem])
                bad += wrong
                print(f"{name:9}{backend:9}{mode:9}{loss:.4f}{'  MORE THAN NOISE' if wrong else ''}", flush=True)
    sys.exit(bad)


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())  # O1 writes the classes that it makes
    main()
