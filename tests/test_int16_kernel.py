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
"""The adder layer in fixed point: off by the rounding of its grid and no more, however large the weights are."""
import ctypes

import mindspore as ms
import numpy as np
import oracle
import pytest
from test_adder_kernel import SHAPES, call, geometry_of

from src import kernels
from src.kernels import build
from src.kernels.geometry import Geometry

COARSER = 2 ** 0.25  # at most, than the grid of 32,764 steps that just spans the values
# Words of 1 to 5 channels, filters that are none of a vector, and so many taps that sums force a coarser grid.
MORE = [((2, channels, 7, 6), (5, channels, 3, 3), 1, 1) for channels in range(2, 6)]
LONG = ((1, 9001, 3, 3), (2, 9001, 3, 3), 1, 0)


def numbers(x_shape, w_shape, spread=1.0, negative=False):
    """x as ReLU leaves it, or of both signs, and filters with the outliers that those of trained networks have."""
    random = np.random.default_rng(0)
    x = random.standard_normal(x_shape).astype(np.float32)
    return x if negative else np.maximum(x, 0), random.laplace(0, spread, w_shape).astype(np.float32)


def step_of(x, w):
    """The grid's step of each image [N, 1, 1, 1]; a negative least value is rounded away from zero."""
    low, high = np.minimum(x.min((1, 2, 3)), 0) * COARSER, np.maximum(x.max((1, 2, 3)), 0)
    integers = 4 * -(-w.shape[1] // 4) * w.shape[2] ** 2
    return ((high - low) * COARSER / min(32764, 2 ** 31 / (integers + 1)))[:, None, None, None]


def folded(library, x, w, stride, padding, like, *shortcut, relu=0, scale=None, shift=None):
    scale = np.ones(len(w), np.float32) if scale is None else scale
    shift = np.zeros(len(w), np.float32) if shift is None else shift
    return call(library.AdderFoldedInt16, x, w, scale, shift, *shortcut, geometry_of(stride, padding, 1, relu + 1),
                like=like)


def check_int16(library, cases=(*SHAPES, *MORE, LONG)):
    """Each term is off by at most a step, and all together by what independent roundings add up to."""
    for x_shape, w_shape, stride, padding in cases:
        for spread, negative in ((1, False), (20, False), (1, True)):
            x, w = numbers(x_shape, w_shape, spread, negative)
            y = oracle.forward(x, w, stride, padding)
            error = np.abs(folded(library, x, w, stride, padding, y) - y)
            taps, step, floats = np.prod(w_shape[1:]), step_of(x, w), 1e-6 * np.abs(y).max()
            assert (error <= taps * step + floats).all()
            if error.size > 200:
                assert error.mean() <= (0.5 * np.sqrt(taps) * step + floats).max()
            check_epilogue(library, x, w, stride, padding, y)


def check_epilogue(library, x, w, stride, padding, y):
    """Scale, shift, shortcut and ReLU are those of the layer in floats."""
    random = np.random.default_rng(1)
    scale, shift = random.normal(0, 1, (2, len(w))).astype(np.float32)
    shortcut = random.standard_normal(y.shape).astype(np.float32)
    responses = folded(library, x, w, stride, padding, y)
    wanted = np.maximum(scale[:, None, None] * responses + shift[:, None, None] + shortcut, 0)
    got = folded(library, x, w, stride, padding, y, shortcut, relu=1, scale=scale, shift=shift)
    assert oracle.relative_error(got, wanted) < 1e-5


@pytest.fixture(name="library", scope="module")
def fixture_library():
    return ctypes.CDLL(str(build.cpu_library()))


def test_installed_library(library):
    check_int16(library)


@pytest.mark.parametrize("case", [SHAPES[2], SHAPES[3], SHAPES[7], MORE[1]])
def test_an_image_does_not_depend_on_the_others(library, case):
    """Nor on the number of threads: images of other ranges have other grids."""
    x_shape, w_shape, stride, padding = case
    x, w = numbers((max(x_shape[0], 6), *x_shape[1:]), w_shape)
    x *= np.logspace(-3, 3, len(x), dtype=np.float32)[:, None, None, None]
    y, results = oracle.forward(x, w, stride, padding), set()
    for threads in (1, 2, 5):
        library.SetThreads(ctypes.c_int64(threads))
        alone = [folded(library, x[n:n + 1], w, stride, padding, y[n:n + 1]) for n in range(len(x))]
        results |= {folded(library, x, w, stride, padding, y).tobytes(), np.concatenate(alone).tobytes()}
    assert len(results) == 1


@pytest.mark.parametrize("size", [0, 1e-38, 1e-20, 1e20, 1e36])
def test_sizes(library, size):
    """Images of zeros, of tiny and of huge values."""
    x, w = numbers((2, 5, 6, 7), (3, 5, 3, 3))
    x, w = x * np.float32(size), w * np.float32(size or 1)
    y = oracle.forward(x, w, 1, 1)
    assert oracle.relative_error(folded(library, x, w, 1, 1, y), y) < 1e-4


def test_what_is_not_finite(library):
    """An image with NaN or infinity gives NaN, another none; a filter with NaN gives NaN, with infinity infinity."""
    x, w = numbers((4, 5, 6, 7), (18, 5, 3, 3))
    y = oracle.forward(x, w, 1, 1)
    x[1, 4, 5, 6], x[2, 0, 0, 0], x[3, 2, 1, 3] = np.nan, np.inf, -np.inf
    got = folded(library, x, w, 1, 1, y)
    assert np.isnan(got[1:]).all() and oracle.relative_error(got[:1], y[:1]) < 1e-4
    w[1, 2, 0, 1], w[17, 0, 0, 0] = np.nan, -np.inf
    got = folded(library, x[:1], w, 1, 1, y[:1])[0]
    assert np.isnan(got[1]).all() and np.isneginf(got[17]).all()
    assert oracle.relative_error(got[2:17], y[0, 2:17]) < 1e-4


def test_nothing_to_add(library):
    for shapes in [((0, 3, 5, 5), (4, 3, 3, 3), 1, 1), ((2, 0, 5, 5), (4, 0, 3, 3), 2, 1),
                   ((2, 3, 5, 5), (0, 3, 3, 3), 1, 1), ((2, 3, 2, 5), (4, 3, 3, 3), 2, 0)]:
        x, w = numbers(*shapes[:2]) if all(shapes[0]) else (np.zeros(shapes[0], np.float32), np.zeros(shapes[1], np.float32))
        rows, columns = (max(0, (size + 2 * shapes[3] - w.shape[2]) // shapes[2] + 1) for size in x.shape[2:])
        assert not folded(library, x, w, *shapes[2:], np.zeros((len(x), len(w), rows, columns), np.float32)).any()


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_operators(mode, library):
    """The same as MindSpore operators, of which one stands beside one of floats for the same shapes."""
    ms.set_context(mode=mode)
    x, w = numbers((3, 6, 9, 8), (17, 6, 3, 3))
    y, ones, zeros = oracle.forward(x, w, 2, 1), np.ones(17, np.float32), np.zeros(17, np.float32)
    inputs = [ms.Tensor(value) for value in (x, w, ones, zeros)]
    geometry = Geometry(2, 1)
    floats = kernels.operation("folded", "kernel", geometry, relu=False)(*inputs).asnumpy()
    got = kernels.operation("folded_int16", "kernel", geometry, relu=False)(*inputs).asnumpy()
    assert np.array_equal(got, folded(library, x, w, 2, 1, y)) and not np.array_equal(got, floats)
    with pytest.raises(ValueError, match="norm 1 only, not 2"):
        kernels.operation("folded_int16", "kernel", Geometry(2, 1, 2), relu=False)
