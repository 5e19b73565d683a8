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
"""The adder layer's functions of the C++ library, called as MindSpore calls them, against float64."""
import ctypes
import subprocess
import sys

import mindspore as ms
import numpy as np
import oracle
import pytest

from benchmarks.binding import bind
from src import kernels
from src.kernels import build
from src.kernels.geometry import Geometry

# A few shapes for every variant: x, w, stride and padding.
SHAPES = [((1, 1, 1, 1), (1, 1, 1, 1), 1, 0), ((3, 5, 9, 7), (6, 5, 3, 3), 2, 1),
          ((40, 19, 8, 8), (37, 19, 3, 3), 1, 1), ((2, 3, 40, 41), (9, 3, 2, 2), 3, 2),
          ((18, 2, 33, 32), (3, 2, 5, 5), 1, 2), ((1, 1, 22, 22), (512, 1, 7, 7), 1, 0),
          # Groups: three of 5 channels, 19 of two, few channels and many groups; depthwise, with several filters too.
          ((2, 15, 9, 7), (6, 5, 3, 3), 2, 1), ((3, 38, 8, 9), (19 * 3, 2, 2, 2), 3, 2),
          ((1, 34, 7, 6), (40, 17, 1, 1), 2, 0), ((20, 6, 33, 32), (4, 3, 5, 5), 1, 2),
          ((1, 2, 1, 1), (2, 1, 1, 1), 1, 0), ((3, 19, 9, 7), (19, 1, 3, 3), 1, 1),
          ((2, 5, 14, 37), (15, 1, 5, 5), 2, 2), ((1, 33, 8, 20), (66, 1, 2, 2), 3, 3), ((2, 16, 6, 5), (16, 1, 3, 3), 3, 0)]
# Without images, channels, filters, rows, and without room for the window.
EMPTY = [((0, 3, 5, 5), (4, 3, 3, 3), 1, 1), ((2, 0, 5, 5), (4, 0, 3, 3), 2, 1), ((2, 3, 5, 5), (0, 3, 3, 3), 1, 1),
         ((2, 3, 0, 5), (4, 3, 3, 3), 1, 0), ((2, 3, 2, 5), (4, 3, 3, 3), 2, 0)]
EMPTY += [((0, 3, 5, 5), (3, 1, 3, 3), 1, 1), ((2, 3, 5, 5), (0, 1, 3, 3), 1, 1), ((2, 3, 0, 5), (3, 1, 3, 3), 1, 0),
          ((2, 3, 2, 5), (6, 1, 3, 3), 2, 0)]  # the same, depthwise


def call(function, *inputs, like, dtype=np.float32):
    """The function's output, as large as `like`."""
    output = np.full(like.shape, 77, dtype)  # every value has to be written
    assert bind(function, [*inputs, output])() == 0
    return output


def geometry_of(stride, padding, *more):
    return np.zeros((stride, padding + 1, *more), np.uint8)


def numbers(x_shape, w_shape, stride, padding):
    """x, w and dy."""
    random = np.random.default_rng(0)
    rows, columns = (max(0, (size + 2 * padding - w_shape[2]) // stride + 1) for size in x_shape[2:])
    shapes = x_shape, w_shape, (x_shape[0], w_shape[0], rows, columns)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def bits(library, shapes):
    """y, dx and dw as bytes."""
    x, w, dy = numbers(*shapes)
    geometry, mix = geometry_of(*shapes[2:], 1), np.array([0.5], np.float32)
    return tuple(value.tobytes() for value in (call(library.AdderForward, x, w, geometry, like=dy),
                                               call(library.AdderInputGrad, dy, x, w, geometry, like=x),
                                               call(library.AdderWeightGrad, dy, x, w, mix, geometry, like=w)))


def check_adder(library, cases=SHAPES):
    """Compare the adder layer's functions with the oracle."""
    for shapes in cases:
        stride, padding = shapes[2:]
        x, w, dy = numbers(*shapes)
        for norm in (1, 2):
            geometry, y = geometry_of(stride, padding, norm), oracle.forward(x, w, stride, padding, norm)
            assert oracle.relative_error(call(library.AdderForward, x, w, geometry, like=y), y) < 1e-5
            dx = oracle.input_grad(dy, x, w, stride, padding, norm)
            assert oracle.relative_error(call(library.AdderInputGrad, dy, x, w, geometry, like=dx), dx) < 1e-5
            check_folded(library, (x, w), y, dy, (stride, padding, norm))
        for mix in (0.0, 0.5, 1.0):
            dw = oracle.weight_grad(dy, x, w, stride, padding, mix)
            inputs = dy, x, w, np.array([mix], np.float32), geometry_of(stride, padding, 1)
            assert oracle.relative_error(call(library.AdderWeightGrad, *inputs, like=dw), dw) < 1e-5


def check_folded(library, inputs, y, shortcut, sizes):
    """The layer with norm, shortcut and ReLU."""
    scale, shift = np.random.default_rng(1).normal(0, 1, (2, y.shape[1])).astype(np.float32)
    for relu in (0, 1):
        for more in ((), (shortcut,)):
            before = scale[:, None, None] * y + shift[:, None, None] + sum(more)
            wanted = np.maximum(before, 0) if relu else before
            got = call(library.AdderFolded, *inputs, scale, shift, *more, geometry_of(*sizes, relu + 1), like=wanted)
            assert np.abs(got - wanted).max() < 1e-5 * np.abs(before).max()


def check_empty(library):
    """What is there has the value of an empty sum: zero."""
    for shapes in EMPTY:
        stride, padding = shapes[2:]
        x, w, dy = numbers(*shapes)
        geometry, vector, one = geometry_of(stride, padding, 1, 1), np.ones(len(w), np.float32), np.ones(1, np.float32)
        assert not call(library.AdderForward, x, w, geometry, like=dy).any()
        assert not call(library.AdderInputGrad, dy, x, w, geometry, like=x).any()
        assert (call(library.AdderFolded, x, w, vector, vector, geometry, like=dy) == 1).all()
        for mix in (0 * one, one / 2, one):
            assert not call(library.AdderWeightGrad, dy, x, w, mix, geometry, like=w).any()


def check_empty_bytes(library):
    """The same for the layer of bytes."""
    for shapes in EMPTY:
        x, w, dy = numbers(*shapes)
        geometry, vector = geometry_of(*shapes[2:], 1, 1), np.ones(len(w), np.float32)
        bytes_x, bytes_w = np.zeros(np.array(x.shape)[[0, 2, 3, 1]], np.uint8), np.zeros(w.shape, np.uint8)
        like, top = dy.transpose(0, 2, 3, 1), np.array([255], np.float32)
        assert not call(library.AdderInt8, bytes_x, bytes_w, geometry, like=like, dtype=np.int32).any()
        assert (call(library.AdderInt8Folded, bytes_x, bytes_w, vector, vector, top, geometry, like=like,
                     dtype=np.uint8) == 1).all()
        call(library.QuantiseInt8, x, top, geometry, like=bytes_x, dtype=np.uint8)


def check_nan(library, cases=SHAPES):
    """What is NaN by the oracle is NaN, in every instruction set: nothing broken passes for sound."""
    for shapes in cases:
        stride, padding = shapes[2:]
        for broken in range(3):  # x, w, dy
            tensors = numbers(*shapes)
            tensors[broken].flat[tensors[broken].size // 2] = np.nan
            x, w, dy = tensors
            for norm in (1, 2):
                geometry = geometry_of(stride, padding, norm)
                assert_nan(call(library.AdderForward, x, w, geometry, like=dy),
                           oracle.forward(x, w, stride, padding, norm))
                assert_nan(call(library.AdderInputGrad, dy, x, w, geometry, like=x),
                           oracle.input_grad(dy, x, w, stride, padding, norm))
            for mix in (0.0, 0.5, 1.0):
                inputs = dy, x, w, np.array([mix], np.float32), geometry_of(stride, padding, 1)
                assert_nan(call(library.AdderWeightGrad, *inputs, like=w),
                           oracle.weight_grad(dy, x, w, stride, padding, mix))


def check_one_odd_filter(library):
    """A filter far from all others, or not finite, costs the others no accuracy."""
    (x, w, dy), size = numbers((3, 16, 9, 8), (20, 16, 3, 3), 1, 1), (1, 1)
    for odd in (1e6, -1e30, np.inf, np.nan):
        w[4, 5, 1, 1] = odd
        others = np.arange(20) != 4
        y, dw = oracle.forward(x, w[others], *size), oracle.weight_grad(dy[:, others], x, w[others], *size)
        got = call(library.AdderForward, x, w, geometry_of(*size, 1), like=dy)
        assert oracle.relative_error(got[:, others], y) < 1e-5
        got = call(library.AdderWeightGrad, dy, x, w, np.ones(1, np.float32), geometry_of(*size, 1), like=w)
        assert oracle.relative_error(got[others], dw) < 1e-5


def assert_nan(got, wanted):
    assert np.isnan(got[np.isnan(wanted)]).all()


def check_long_strides(library):
    """A step beyond the image gives the first window's numbers, and costs no more than one to its end."""
    x_shape, w_shape = (2, 16, 8, 5), (16, 16, 3, 3)
    results = [bits(library, (x_shape, w_shape, stride, 1)) for stride in (8, 9, 3000)]
    assert len(set(results)) == 1
    x, w, dy = numbers(x_shape, w_shape, 8, 1)
    y = call(library.AdderForward, x, w, geometry_of(8, 1, 1), like=dy)
    assert dy.shape == (2, 16, 1, 1) and oracle.relative_error(y, oracle.forward(x, w, 8, 1)) < 1e-5


@pytest.fixture(name="library", scope="module")
def _library():
    return ctypes.CDLL(str(build.cpu_library()))


def test_installed_library(library):
    check_adder(library)


def test_nothing_to_add(library):
    check_empty(library)
    check_empty_bytes(library)


def test_nan_is_never_hidden(library):
    check_nan(library)


def test_one_odd_filter(library):
    check_one_odd_filter(library)


@pytest.mark.parametrize("name, shapes, words", [
    ("forward", [(2, 4, 8, 8), (6, 5, 3, 3)], "filters .F, C / groups, k, k., not .2, 4, 8, 8. and .6, 5, 3, 3."),
    ("forward", [(4, 8, 8), (6, 4, 3, 3)], "takes x .N, C, H, W."), ("forward", [(2, 4, 8, 8), (6, 4, 3, 2)], "k, k"),
    ("forward", [(2, 4, 1, 8), (6, 4, 5, 5)], "windows of 5 x 5 do not fit"),
    ("input_grad", [(1, 1, 1, 1), (64, 64, 64, 64), (64, 64, 3, 3)], "dy must be of shape .64, 64, 64, 64., not .1, 1"),
    ("weight_grad", [(1, 6, 8, 8), (2, 4, 8, 8), (6, 4, 3, 3)], "dy must be of shape .2, 6, 8, 8."),
    ("mixed_weight_grad", [(2, 6, 8, 8), (2, 4, 8, 8), (6, 4, 3, 3), (2,)], "mix must be of shape .1., not .2."),
    ("folded", [(2, 4, 8, 8), (6, 3, 3, 3), (6,), (6,)], "not .2, 4, 8, 8. and .6, 3, 3, 3."),
    ("folded_int16", [(2, 4, 8, 8), (6, 3, 3, 3), (6,), (6,)], "not .2, 4, 8, 8. and .6, 3, 3, 3.")])
def test_impossible_shapes_are_refused(name, shapes, words):
    """Before memory is read that is not there."""
    options = {"relu": False} if name.startswith("folded") else {}
    operation = kernels.operation(name, "kernel", Geometry(1, 1), **options)
    with pytest.raises(ValueError, match=words):
        operation(*(ms.Tensor(np.zeros(shape, np.float32)) for shape in shapes))


def test_long_strides(library):
    check_long_strides(library)


@pytest.mark.parametrize("shapes", SHAPES)
def test_threads_change_no_bit(library, shapes):
    results = set()
    for count in (1, 2, 5):
        library.SetThreads(ctypes.c_int64(count))
        results.add(bits(library, shapes))
    assert len(results) == 1


def test_reason_of_a_failure():
    """No memory for the channels: one line says so, and MindSpore is told."""
    lines = ("import ctypes, sys, numpy as np", "from benchmarks.binding import bind",
             "library = ctypes.CDLL(sys.argv[1])",
             "y = np.zeros((1, 1, 1, 1), np.float32)",
             "x = np.lib.stride_tricks.as_strided(y, (1, 1 << 60, 1, 1), (0, 0, 0, 0))",
             "print(bind(library.AdderForward, [x, x, np.zeros((1, 1, 1), np.uint8), y])())")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines), str(build.cpu_library())], capture_output=True,
                          text=True, check=True)
    assert done.stdout == "1\n" and done.stderr.startswith("adder kernel: ") and done.stderr.count("\n") == 1
