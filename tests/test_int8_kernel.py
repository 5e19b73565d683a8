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
"""The adder layer of bytes: exactly the integers of NumPy, and exactly the bytes behind norm, shortcut and rounding."""
import ctypes

import mindspore as ms
import numpy as np
import oracle
import pytest

from benchmarks.binding import bind
from src import kernels
from src.kernels import build
from src.kernels.geometry import Geometry

# x [N, H, W, C], w, stride and padding; channels that are no multiple of 8, filters that are none of a block.
SHAPES = [((1, 1, 1, 1), (1, 1, 1, 1), 1, 0), ((2, 7, 9, 5), (17, 5, 3, 3), 2, 1),
          ((1, 8, 8, 16), (32, 16, 1, 1), 2, 0), ((3, 6, 13, 19), (37, 19, 2, 2), 3, 2),
          ((5, 8, 8, 24), (16, 24, 3, 3), 1, 1), ((1, 41, 40, 3), (6, 3, 5, 5), 1, 0),
          # Groups: of 4, 5 and 17 channels; depthwise, with several filters too.
          ((2, 7, 9, 8), (34, 4, 3, 3), 2, 1), ((1, 6, 13, 15), (9, 5, 2, 2), 1, 2),
          ((2, 5, 5, 34), (40, 17, 1, 1), 2, 0), ((1, 1, 1, 2), (2, 1, 1, 1), 1, 0),
          ((3, 9, 7, 19), (19, 1, 3, 3), 1, 1), ((2, 14, 27, 5), (15, 1, 5, 5), 2, 2), ((4, 8, 8, 32), (32, 1, 3, 3), 1, 1)]
TOP = 200


def responses(x, w, stride, padding):
    """sum |x - w| in integers: x [N, H, W, C], w [F, C / groups, k, k] -> [N, H', W', F]."""
    y = -oracle.forward(x.transpose(0, 3, 1, 2), w, stride, padding)
    return y.transpose(0, 2, 3, 1).astype(np.int64)


def cases(shapes=SHAPES):
    """Of each shape: its response, inputs with scale and shift, and residuals, none, of bytes and of int32."""
    random = np.random.default_rng(0)
    for x_shape, w_shape, stride, padding in shapes:
        x, w = (random.integers(0, 256, shape, np.uint8) for shape in (x_shape, w_shape))
        s = responses(x, w, stride, padding)
        scale = random.normal(0, 100 / max(1, s.std()), len(w)).astype(np.float32)  # a norm's gamma may be negative
        shift = (TOP / 2 - scale * s.mean((0, 1, 2))).astype(np.float32)
        residual_scale = random.normal(0, 0.2, len(w)).astype(np.float32)
        residuals = [random.integers(0, 256, s.shape, np.uint8), random.integers(0, 500, s.shape, np.int32)]
        yield stride, padding, x, w, s, (scale, shift), [(), *((value, residual_scale) for value in residuals)]


def folded(s, scale, shift, *residual):
    """Products and sums rounded one by one, as float32."""
    v = s.astype(np.float32) * scale + shift
    if residual:
        v = v + residual[0].astype(np.float32) * residual[1]
    return np.clip(np.rint(v), 0, TOP).astype(np.uint8)


def check_int8(library, shapes=SHAPES):
    """Compare a library's functions with NumPy, by the convention that MindSpore calls them with."""
    for stride, padding, x, w, s, constants, residuals in cases(shapes):
        got = np.full(s.shape, -1, np.int32)
        geometry = np.zeros((stride, padding + 1), np.uint8)
        assert bind(library.AdderInt8, [x, w, geometry, got])() == 0
        assert np.array_equal(got, s)
        for residual in residuals:
            top, y = np.array([TOP], np.float32), np.full(s.shape, 255, np.uint8)
            assert bind(library.AdderInt8Folded, [x, w, *constants, *residual, top, geometry, y])() == 0
            assert np.array_equal(y, folded(s, *constants, *residual))
    x = np.random.default_rng(0).normal(100, 100, (3, 5, 7, 3)).astype(np.float32)
    x[0, 0, 0] = 2.5, 3.5, 254.5
    y = np.zeros((3, 7, 3, 5), np.uint8)
    assert bind(library.QuantiseInt8, [x, np.array([255], np.float32), np.zeros(1, np.uint8), y])() == 0
    assert np.array_equal(y, np.clip(np.rint(x), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def test_installed_library():
    check_int8(ctypes.CDLL(str(build.cpu_library())))


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_operators(mode):
    """The same as MindSpore operators; one of stride 1 and one of stride 2 for the same shapes do not get confused."""
    ms.set_context(mode=mode)
    for stride, padding, x, w, s, constants, residuals in cases(SHAPES[1:3] + SHAPES[6:7] + SHAPES[-2:-1]):
        tensors, group = [ms.Tensor(value) for value in (x, w)], x.shape[3] // w.shape[1]
        for step, wanted in ((stride, s), (1, responses(x, w, 1, padding))):
            operation = kernels.operation("int8_responses", "kernel", Geometry(step, padding, group=group))
            assert np.array_equal(operation(*tensors).asnumpy(), wanted)
        for residual in residuals:
            more = [ms.Tensor(value) for value in (*constants, *residual)]
            operation = kernels.operation("int8_folded", "kernel", Geometry(stride, padding, group=group), top=TOP)
            assert np.array_equal(operation(*tensors, *more).asnumpy(), folded(s, *constants, *residual))


def test_other_types_are_refused():
    x, w = ms.Tensor(np.ones((1, 4, 4, 3), np.int8)), ms.Tensor(np.ones((2, 3, 3, 3), np.uint8))
    with pytest.raises(TypeError, match="the adder kernel takes tensors of UInt8, UInt8, not Tensor.Int8., Tensor.UIn"):
        kernels.operation("int8_responses", "kernel", Geometry(1, 1))(x, w)
