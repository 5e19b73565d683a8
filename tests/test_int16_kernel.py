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
from src.adder import Adder2d
from src.kernels import build
from src.kernels.geometry import Geometry

COARSER = 2 ** 0.25  # at most, than the grid of 32,764 steps that just spans the values
# Words of 1 to 5 channels, filters that are none of a vector, and so many taps that sums force a coarser grid.
MORE = [((2, channels, 7, 6), (5, channels, 3, 3), 1, 1) for channels in range(2, 6)]
LONG = ((1, 9001, 3, 3), (2, 9001, 3, 3), 1, 0)
WIDE = ((1, 2, 1, 1500), (3, 2, 1, 1), 1, 0)  # a row that one sum would take


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


def check_int16(library, cases=(*SHAPES, *MORE, LONG, WIDE)):
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
        check_gradients(library, x_shape, w_shape, stride, padding)


def check_epilogue(library, x, w, stride, padding, y):
    """Scale, shift, shortcut and ReLU are those of the layer in floats."""
    random = np.random.default_rng(1)
    scale, shift = random.normal(0, 1, (2, len(w))).astype(np.float32)
    shortcut = random.standard_normal(y.shape).astype(np.float32)
    responses = folded(library, x, w, stride, padding, y)
    wanted = np.maximum(scale[:, None, None] * responses + shift[:, None, None] + shortcut, 0)
    got = folded(library, x, w, stride, padding, y, shortcut, relu=1, scale=scale, shift=shift)
    assert oracle.relative_error(got, wanted) < 1e-5


def gradients(library, dy, x, w, stride, padding):
    """dx and dw."""
    geometry = geometry_of(stride, padding, 1)
    return (call(library.AdderInputGradInt16, dy, x, w, geometry, like=x),
            call(library.AdderWeightGradInt16, dy, x, w, np.ones(1, np.float32), geometry, like=w))


def bits(library, shapes):
    """y, dx and dw as bytes."""
    x, w, dy = all_numbers(*shapes)
    values = (folded(library, x, w, *shapes[2:], dy), *gradients(library, dy, x, w, *shapes[2:]))
    return tuple(value.tobytes() for value in values)


def check_gradients(library, x_shape, w_shape, stride, padding):
    """Errors of dx are what the rounding of x, w and dy adds up to, those of dw what independent ones do."""
    for heavy in (False, True):
        x, w, dy = all_numbers(x_shape, w_shape, stride, padding, heavy)
        dx, dw = gradients(library, dy, x, w, stride, padding)
        wanted = oracle.input_grad(dy, x, w, stride, padding)
        assert (np.abs(dx - wanted) <= most_of_dx(dy, x, w, stride) + 1e-6 * np.abs(wanted).max()).all()
        wanted, positions = oracle.weight_grad(dy, x, w, stride, padding), dy[:, 0].size
        largest = (np.abs(x).max() + np.abs(w).max()) * np.abs(dy).max()
        # Of a tile's positions, 256 or a row; x has 13 bits and the sum of dy 18, or dy 15.
        step = largest * max(1 / 32766, 1.01 * max(256, dy.shape[3]) / 2 ** 18)
        assert np.abs(dw - wanted).max() <= 3 * np.sqrt(positions) * (step + largest / 8192) + 1e-6 * np.abs(wanted).max()


def all_numbers(x_shape, w_shape, stride, padding, heavy=False):
    """x, w and dy, of which a few values may be far larger than the others."""
    x, w = numbers(x_shape, w_shape, 3)
    rows, columns = ((size + 2 * padding - w_shape[2]) // stride + 1 for size in x_shape[2:])
    random = np.random.default_rng(1)
    shape = (x_shape[0], w_shape[0], rows, columns)
    return x, w, (random.standard_t(2, shape) if heavy else random.standard_normal(shape)).astype(np.float32)


def most_of_dx(dy, x, w, stride):
    """By how much dx of an image [N, 1, 1, 1] may be off: a step of x's grid times |dy|, half a step of dy a term."""
    groups, window = x.shape[1] // w.shape[1], (-(-w.shape[2] // stride)) ** 2
    bounds = np.zeros((len(x), groups))
    for n, group in np.ndindex(bounds.shape):
        of_x = x[n].reshape(groups, -1)[group]
        size = np.abs(dy[n].reshape(groups, -1, *dy.shape[2:])[group], dtype=np.float64)
        least, most = (2.0 ** np.ceil(np.log2(max(1, v))) if v > 0 else 0 for v in (-of_x.min(), of_x.max()))
        taps, largest_sum = len(size) * window, size.sum(0).max()
        one = min(8192, 2 ** 30 // taps)
        while (most + least + 2) * one > 65535:
            one //= 2
        factor = lambda one: (0.999 * 2 ** 31 - one * taps / 2) / (one * window * largest_sum)  # noqa: E731
        while one > 1 and factor(one) < min(32766 / size.max(), one / size.mean()):
            one //= 2
        bounds[n, group] = largest_sum * window / one + taps / 2 / min(factor(one), 32766 / size.max())
    return bounds.max(1)[:, None, None, None]


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


@pytest.mark.parametrize("case", [SHAPES[2], SHAPES[3], SHAPES[7], MORE[1]])
def test_gradients_do_not_depend_on_threads(library, case):
    """Nor that of an image on the others."""
    x_shape, w_shape, stride, padding = case
    x, w, dy = all_numbers((max(x_shape[0], 6), *x_shape[1:]), w_shape, stride, padding)
    x *= np.logspace(-2, 2, len(x), dtype=np.float32)[:, None, None, None]
    dy *= np.logspace(-3, 3, len(x), dtype=np.float32)[:, None, None, None]
    results = set()
    for threads in (1, 2, 5):
        library.SetThreads(ctypes.c_int64(threads))
        dx, dw = gradients(library, dy, x, w, stride, padding)
        alone = [gradients(library, dy[n:n + 1], x[n:n + 1], w, stride, padding)[0] for n in range(len(x))]
        assert np.concatenate(alone).tobytes() == dx.tobytes()
        results.add(dx.tobytes() + dw.tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("size", [0, 1e-38, 1e-20, 1e20, 1e36])
def test_sizes(library, size):
    """Images of zeros, of tiny and of huge values."""
    x, w = numbers((2, 5, 6, 7), (3, 5, 3, 3))
    x, w = x * np.float32(size), w * np.float32(size or 1)
    y = oracle.forward(x, w, 1, 1)
    assert oracle.relative_error(folded(library, x, w, 1, 1, y), y) < 1e-4


@pytest.mark.parametrize("size", [0, 1e-25, 1e-10, 1e10, 1e30])
def test_sizes_of_dy(library, size):
    x, w, dy = all_numbers((2, 5, 6, 7), (3, 5, 3, 3), 1, 1)
    dx, dw = gradients(library, dy * np.float32(size), x, w, 1, 1)
    assert oracle.relative_error(dx, size * oracle.input_grad(dy, x, w, 1, 1)) < 1e-3
    assert oracle.relative_error(dw, size * oracle.weight_grad(dy, x, w, 1, 1)) < 1e-3


def test_far_weights_and_images_count_in_full(library):
    """Differences are clipped, whatever lies between; images of thousands have a coarse grid."""
    x, w, dy = all_numbers((3, 5, 6, 7), (3, 5, 3, 3), 1, 1)
    w[0] += 1e4
    w[1] -= 1e4
    x[1] *= 3000
    x[2] -= 500
    got, wanted = gradients(library, dy, x, w, 1, 1)[0], oracle.input_grad(dy, x, w, 1, 1)
    assert (np.abs(got - wanted) <= most_of_dx(dy, x, w, 1) + 1e-5).all()
    x[1] *= 100  # of which no grid of 16 bits has a step of 1
    assert np.isnan(gradients(library, dy, x, w, 1, 1)[0][1]).all()


def test_filters_and_channels_of_other_sizes(library):
    """None costs others their accuracy in dw."""
    x, w, dy = all_numbers((3, 20, 6, 7), (18, 20, 3, 3), 1, 1)
    dy *= np.logspace(0, -6, 18, dtype=np.float32)[:, None, None]
    x[:, 3] += 1000
    got, wanted = gradients(library, dy, x, w, 1, 1)[1], oracle.weight_grad(dy, x, w, 1, 1)
    largest = np.abs(wanted).max((2, 3))
    assert (np.abs(got - wanted).max((2, 3)) < 3e-3 * largest).all()


@pytest.mark.parametrize("taps", [9001 * 9, 66000])
def test_weights_on_one_side_of_many_inputs(library, taps):
    """Of so many taps that sums of 32 bits leave a coarser grid."""
    window = 3 if taps % 9 == 0 else 1
    x, w = np.zeros((1, taps // window ** 2, window, window), np.float32), np.full(
        (2, taps // window ** 2, window, window), 1.5, np.float32)
    x.flat[0] = 1
    y = oracle.forward(x, w, 1, 0)
    assert oracle.relative_error(folded(library, x, w, 1, 0, y), y) < 1e-4


@pytest.mark.parametrize("size", [1, 1e6])
def test_images_of_zeros_and_large_weights(library, size):
    x, w = numbers((2, 64, 5, 5), (4, 64, 3, 3), 1000 * size)
    x[0] *= 0
    x[1] *= 1e-30
    y = oracle.forward(x, w, 1, 1)
    assert oracle.relative_error(folded(library, x, w, 1, 1, y), y) < 1e-5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_gradients_of_what_is_not_finite(library, value):
    """The image's dx, and dw, are NaN; so are all where a weight is."""
    x, w, dy = all_numbers((3, 5, 6, 7), (18, 5, 3, 3), 1, 1)
    wanted = oracle.input_grad(dy, x, w, 1, 1)
    x[0, 2, 1, 3], dy[2, 17, 5, 6] = value, value
    dx, dw = gradients(library, dy, x, w, 1, 1)
    assert np.isnan(dx[[0, 2]]).all() and oracle.relative_error(dx[1], wanted[1]) < 1e-2
    broken = (np.arange(18) == 17)[:, None] | (np.arange(5) == 2)
    assert np.isnan(dw[broken]).all() and np.isfinite(dw[~broken]).all()
    x, w, dy = all_numbers((3, 5, 6, 7), (18, 5, 3, 3), 1, 1)
    w[3, 4, 0, 1] = value
    assert np.isnan(gradients(library, dy, x, w, 1, 1)[0]).all()


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
        y = np.zeros((len(x), len(w), rows, columns), np.float32)
        assert not folded(library, x, w, *shapes[2:], y).any()
        assert not any(gradient.any() for gradient in gradients(library, y, x, w, *shapes[2:]))


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


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_layer(mode, library):
    """An adder layer's forward pass and gradients are those of the library, eta apart."""
    ms.set_context(mode=mode)
    x, w, dy = all_numbers((3, 6, 9, 8), (17, 6, 3, 3), 2, 1)
    layer = Adder2d(6, 17, 3, 2, 1, eta=0, precision="int16")
    layer.adder.set_data(ms.Tensor(w))
    dx, dw = ms.ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)(layer, layer.trainable_params())(
        ms.Tensor(x), ms.Tensor(dy))
    y, zeros, ones = oracle.forward(x, w, 2, 1), np.zeros(17, np.float32), np.ones(17, np.float32)
    assert np.array_equal(layer(ms.Tensor(x)).asnumpy(), folded(library, x, w, 2, 1, y, scale=ones, shift=zeros))
    for got, wanted in zip((dx[0], dw[0]), gradients(library, dy, x, w, 2, 1)):
        assert np.array_equal(got.asnumpy(), wanted)


def test_what_has_no_fixed_point():
    """Norm 2, other backends; the sign gradient of x and the mixed one of w are in floats."""
    for options in ({"norm": 2}, {"backend": "composed"}):
        with pytest.raises(ValueError, match="precision int16 needs norm 1 and the kernel for CPU"):
            Adder2d(2, 2, 3, precision="int16", **options)
    with pytest.raises(ValueError, match="precision must be one of float32, int16, not 'int8'"):
        Adder2d(2, 2, 3, precision="int8")
    assert Adder2d(2, 2, 3, precision="int16", input_gradient="sign").operation.operations("int16") == (
        "forward_int16", "input_grad", "weight_grad_int16")
    mix = ms.Parameter(ms.Tensor(np.ones(1, np.float32)))
    assert Adder2d(2, 2, 3, precision="int16", mix=mix).operation.operations("int16")[2] == "mixed_weight_grad"
