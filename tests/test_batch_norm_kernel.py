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
"""Batch norm with shortcut and ReLU in one pass: against float64, and bit by bit against its parts one by one."""
import ctypes
import itertools

import numpy as np
import oracle
import pytest

from benchmarks.binding import bind
from src.kernels import build

SHAPES = [(3, 5, 7, 3), (2, 3, 8, 8), (4, 2, 1, 1), (1, 17, 5, 5), (2, 1, 33, 31), (5, 4)]
EMPTY = [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (0, 0, 0, 0)]
OPTIONS = np.array([oracle.MOMENTUM, oracle.EPSILON], np.float32)
VARIANTS = list(itertools.product((False, True), repeat=2))  # relu, shortcut


def forward(library, x, vectors, relu=False, shortcut=None):
    """y, the new moving statistics, the batch's mean and inverse deviation."""
    outputs = [np.full_like(value, np.nan) for value in (x, *vectors)]  # every value has to be written
    more = () if shortcut is None else (shortcut,)
    geometry = np.zeros(relu + 1, np.uint8)
    assert bind(library.BatchNormForward, [x, *vectors, OPTIONS, *more, geometry, *outputs])() == 0
    return outputs


def grad(library, dy, x, gamma, mean, inverse, y=None, shortcut=False):
    """dx, dgamma, dbeta and, with y and a shortcut, the gradient of the shortcut."""
    relu = y is not None
    outputs = [np.full_like(value, np.nan) for value in (x, gamma, gamma, x)[:4 if relu and shortcut else 3]]
    geometry = np.zeros((relu + 1, shortcut + 1), np.uint8)
    assert bind(library.BatchNormGrad, [dy, x, gamma, mean, inverse, *([y] if relu else []), geometry, *outputs])() == 0
    return outputs


def numbers(shape):
    """x, dy and a shortcut; gamma, beta and moving statistics."""
    random = np.random.default_rng(0)
    return ([random.normal(1, 2, shape).astype(np.float32) for _ in range(3)],
            [random.uniform(0.5, 2, shape[1]).astype(np.float32) for _ in range(4)])


def check_batch_norm(library, shapes=SHAPES):
    """Compare both functions with the oracle, and what is done in one pass with the same in several."""
    for shape in shapes:
        (x, dy, shortcut), vectors = numbers(shape)
        plain, *statistics = forward(library, x, vectors)
        for relu, added in VARIANTS:
            y, *same = forward(library, x, vectors, relu, shortcut if added else None)
            z = plain + shortcut if added else plain
            assert np.array_equal(y, np.maximum(z, 0) if relu else z)
            assert all(map(np.array_equal, same, statistics))
            dz = np.where(y > 0, dy, np.float32(0)) if relu else dy
            got = grad(library, dy, x, vectors[0], *statistics[2:], y if relu else None, added)
            wanted = *grad(library, dz, x, vectors[0], *statistics[2:]), *([dz] if relu and added else [])
            assert all(map(np.array_equal, got, wanted)) and len(got) == len(wanted)
            check_against_oracle(x, dz, vectors, [plain, *got[:3], *statistics[:2]])


def check_against_oracle(x, dz, vectors, got):
    planes = [value.reshape(*x.shape[:2], -1, 1) for value in (x, dz)]  # the oracle wants four axes
    wanted = oracle.batch_norm(*planes, *vectors)
    for i, (one, other) in enumerate(zip(got, wanted)):
        usual = np.sqrt(x[:, 0].size) if i in (2, 3) else 0  # dgamma and dbeta are sums that may come out near zero
        assert np.abs(one.reshape(other.shape) - other).max() < 1e-5 * max(np.abs(other).max(), usual)


def check_empty(library, shape):
    """Nothing is known of an empty batch: moving statistics stay as they are, gradients are zero."""
    (x, dy, shortcut), vectors = numbers(shape)
    for relu, added in VARIANTS:
        y, *moving, mean, inverse = forward(library, x, vectors, relu, shortcut if added else None)
        assert all(map(np.array_equal, moving, vectors[2:])) and np.isfinite(mean).all() and np.isfinite(inverse).all()
        _, dgamma, dbeta, *_ = grad(library, dy, x, vectors[0], mean, inverse, y if relu else None, added)
        assert not dgamma.any() and not dbeta.any()


def check_nan(library):
    """A broken input must not pass for a sound one, as it does where a ReLU takes NaN for a negative number."""
    (x, dy, shortcut), vectors = numbers((2, 3, 5, 5))
    shortcut[0, 1, 2, 2] = np.nan
    y, *_, mean, inverse = forward(library, x, vectors, True, shortcut)
    assert np.array_equal(np.isnan(y), np.isnan(shortcut))
    *_, dz = grad(library, dy, x, vectors[0], mean, inverse, y, True)
    assert dz[0, 1, 2, 2] == dy[0, 1, 2, 2]
    x[1, 0, 0, 0] = np.nan
    y, *_ = forward(library, x, vectors, True)
    assert np.isnan(y[:, 0]).all() and np.isfinite(y[:, 1:]).all()


@pytest.fixture(name="library", scope="module")
def _library():
    return ctypes.CDLL(str(build.cpu_library()))


def test_installed_library(library):
    check_batch_norm(library)


@pytest.mark.parametrize("shape", EMPTY)
def test_empty(library, shape):
    check_empty(library, shape)


def test_nan_passes_through(library):
    check_nan(library)
