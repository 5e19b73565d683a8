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
"""The adder layer against the oracle: both implementations, both modes of MindSpore, awkward shapes and values."""
import functools
import hashlib
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import mindspore as ms
import numpy as np
import oracle
import pytest
from mindspore import nn, ops

from src import adder, kernels
from src.adder import ETA, Adder2d, AdderOp, MixedAdderOp, adder2d_function
from src.kernels import Geometry, composed, exported, operations

ROOT = Path(__file__).resolve().parents[1]
MODES = {"GRAPH": ms.GRAPH_MODE, "PYNATIVE": ms.PYNATIVE_MODE}
TOLERANCE = 1e-5  # of the largest value; float32 sums of a few hundred terms are near 1e-6

Case = namedtuple("Case", "batch channels height width filters kernel stride padding group", defaults=(1,))
CASES = {
    "one of everything": Case(1, 1, 1, 1, 1, 1, 1, 0),
    "single window": Case(1, 3, 5, 5, 4, 5, 1, 0),
    "3x3": Case(2, 3, 8, 8, 4, 3, 1, 1),
    "3x3 stride 2, odd, not square": Case(2, 3, 9, 7, 5, 3, 2, 1),
    "3x3 stride 3, rows that no window reaches": Case(2, 3, 8, 10, 4, 3, 3, 0),
    "3x3 stride 2, the last padding is not reached": Case(1, 4, 8, 6, 5, 3, 2, 1),
    "1x1 stride 2, as in a shortcut": Case(2, 16, 8, 8, 32, 1, 2, 0),
    "1x1 stride 3, padding beyond the window": Case(2, 5, 7, 8, 3, 1, 3, 2),
    "2x2 padding beyond the window": Case(1, 2, 4, 5, 3, 2, 1, 2),
    "2x2 stride 3": Case(1, 5, 8, 11, 6, 2, 3, 2),
    "5x5 stride 3": Case(2, 3, 5, 6, 5, 5, 3, 2),
    "no multiples of a register block": Case(2, 19, 6, 5, 37, 3, 1, 1),
    "many images in a tile, last tile short": Case(70, 5, 4, 4, 6, 3, 1, 1),
    "large images, more tiles than groups": Case(20, 2, 33, 32, 3, 3, 1, 1),
    "stride 2 over several tiles": Case(11, 3, 41, 38, 4, 3, 2, 1),
    "one channel, 5x5, several tiles": Case(5, 1, 33, 29, 6, 5, 1, 0),
    "one channel, stride 2, odd, padding": Case(3, 1, 9, 12, 20, 3, 2, 2),
    "7x7 stride 2, more taps than a register block": Case(2, 3, 23, 18, 5, 7, 2, 3),
    "2 groups, stride 2, odd, not square": Case(2, 6, 9, 7, 4, 3, 2, 1, 2),
    "19 groups of 3 filters, one image": Case(1, 38, 5, 6, 57, 2, 1, 1, 19),
    "depthwise": Case(2, 17, 8, 9, 17, 3, 1, 1, 17),
    "depthwise, 2 filters each, 5x5 stride 2": Case(3, 4, 11, 35, 8, 5, 2, 2, 4),
    "depthwise, stride 3, padding beyond the window": Case(1, 3, 7, 8, 3, 1, 3, 2, 3),
}
TYPICAL, GROUPED, DEPTHWISE = (CASES[name] for name in (
    "3x3 stride 2, odd, not square", "2 groups, stride 2, odd, not square", "depthwise, 2 filters each, 5x5 stride 2"))
PLACES = [(backend, mode, name) for backend in ("kernel", "composed") for mode in MODES for name in CASES
          # A compilation of the composed form takes seconds.
          if (backend, mode) != ("composed", "GRAPH")
          or name in ("2x2 stride 3", "3x3 stride 2, odd, not square", "2 groups, stride 2, odd, not square")]
backends = pytest.mark.parametrize("backend", ["kernel", "composed"])
modes = pytest.mark.parametrize("mode", list(MODES))


def numbers(case, scale=1.0, offset=0.0, seed=0):
    """Random x, w and dy of a case."""
    random = np.random.default_rng(seed)
    x = random.standard_normal(case[:4]) * scale + offset
    w = random.standard_normal((case.filters, case.channels // case.group, case.kernel, case.kernel)) * scale + offset
    rows, cols = ((size + 2 * case.padding - case.kernel) // case.stride + 1 for size in case[2:4])
    dy = random.standard_normal((case.batch, case.filters, rows, cols))
    return [array.astype(np.float32) for array in (x, w, dy)]


def expected(case, x, w, dy, eta=ETA, norm=1, mix=1.0):
    """y, dx and dw by the oracle."""
    geometry = case.stride, case.padding
    return (oracle.forward(x, w, *geometry, norm), oracle.input_grad(dy, x, w, *geometry, norm),
            oracle.adaptive(oracle.weight_grad(dy, x, w, *geometry, mix), eta))


def gradients(function, *tensors):
    """Gradients with respect to all of a function's inputs; the last tensor is that of its output."""
    return ops.GradOperation(get_all=True, sens_param=True)(function)(*tensors)


def measured(function, x, w, dy, *more):
    """y, dx and dw of a function of x, w and perhaps more."""
    x, w, dy = ms.Tensor(x), ms.Tensor(w), ms.Tensor(dy)
    return [tensor.asnumpy() for tensor in (function(x, w, *more), *gradients(function, x, w, *more, dy)[:2])]


def errors(got, wanted):
    return [oracle.relative_error(a, b) for a, b in zip(got, wanted)]


@pytest.mark.parametrize("backend, mode, name", PLACES)
def test_matches_the_oracle(backend, mode, name):
    ms.set_context(mode=MODES[mode])
    case = CASES[name]
    tensors = numbers(case)
    got = measured(AdderOp(case.stride, case.padding, backend=backend, group=case.group), *tensors)
    assert max(errors(got, expected(case, *tensors))) < TOLERANCE


@pytest.mark.parametrize("backend, mode, name", PLACES)
def test_norm_2_matches_the_oracle(backend, mode, name):
    ms.set_context(mode=MODES[mode])
    case = CASES[name]
    tensors = numbers(case)
    got = measured(AdderOp(case.stride, case.padding, backend=backend, norm=2, group=case.group), *tensors)
    assert max(errors(got, expected(case, *tensors, norm=2))) < TOLERANCE


@pytest.mark.parametrize("mix", [0.0, 0.7])
@pytest.mark.parametrize("backend, mode, name", PLACES)
def test_mixed_gradients_match_the_oracle(backend, mode, name, mix):
    """`mix` is a tensor: one compiled graph serves all values."""
    ms.set_context(mode=MODES[mode])
    case = CASES[name]
    tensors = numbers(case)
    got = measured(_mixed(case.stride, case.padding, backend, case.group), *tensors, ms.Tensor([mix], ms.float32))
    assert max(errors(got, expected(case, *tensors, mix=mix))) < TOLERANCE


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("case", [TYPICAL, GROUPED, DEPTHWISE], ids=["dense", "grouped", "depthwise"])
@pytest.mark.parametrize("mix", [None, 0.3])
@backends
def test_sign_of_the_input_gradient(backend, case, scale, mix):
    """Exactly the derivative, however near values are, and 0 where they are equal; nothing else changes."""
    tensors = x, w, dy = numbers(case, scale)
    x.ravel()[::3], w[:, :] = w[0, 0, 0, 0], np.where(w > scale, w[0, 0, 0, 0], w)
    kind, more = (AdderOp, ()) if mix is None else (MixedAdderOp, (ms.Tensor(np.float32([mix])),))
    got = measured(kind(case.stride, case.padding, backend=backend, group=case.group, input_gradient="sign"), *tensors,
                   *more)
    y, _, dw = measured(kind(case.stride, case.padding, backend=backend, group=case.group), *tensors, *more)
    wanted = oracle.input_grad(dy, x, w, case.stride, case.padding, slope=np.sign)
    assert max(errors(got, (y, wanted, dw))) < TOLERANCE


def test_norm_2_has_no_sign():
    for arguments in ({"norm": 2, "input_gradient": "sign"}, {"input_gradient": "hard"}):
        with pytest.raises(ValueError, match="input_gradient must be clip, or sign of norm 1, not"):
            AdderOp(**arguments)


@pytest.mark.parametrize("case", [TYPICAL, DEPTHWISE], ids=["dense", "depthwise"])
@backends
def test_equal_values_have_no_sign(backend, case):
    """Integers are often equal, numbers drawn at random hardly ever."""
    x, w, dy = numbers(case)
    x, w = np.round(2 * x), np.round(2 * w)
    got = measured(_mixed(case.stride, case.padding, backend, case.group), x, w, dy, ms.Tensor([0.0], ms.float32))
    assert max(errors(got, expected(case, x, w, dy, mix=0.0))) < TOLERANCE


@functools.lru_cache(maxsize=None)
def _mixed(stride, padding, backend, group=1):
    return MixedAdderOp(stride, padding, backend=backend, group=group)


@backends
def test_adder_nets_gradient_is_an_end_of_the_mixed_one(backend):
    tensors = numbers(TYPICAL)
    fixed = measured(AdderOp(TYPICAL.stride, TYPICAL.padding, backend=backend), *tensors)
    mixed = measured(_mixed(TYPICAL.stride, TYPICAL.padding, backend), *tensors, ms.Tensor([1.0], ms.float32))
    assert max(errors(mixed, fixed)) < 1e-6


def test_gradients_of_norm_2_are_the_derivatives():
    """Central differences of the oracle's forward pass, which knows nothing of the gradients."""
    case = Case(1, 2, 4, 4, 2, 3, 1, 1)
    x, w, dy = numbers(case)
    _, dx, dw = measured(AdderOp(1, 1, 0, "kernel", norm=2), x, w, dy)
    step = 1e-4
    for tensor, gradient in ((x, dx), (w, dw)):
        for index in ((0, 0, 1, 2), (0, 1, 0, 0)):
            values = []
            for sign in (1, -1):
                moved = tensor.astype(np.float64)
                moved[index] += sign * step
                pair = (moved, w) if tensor is x else (x, moved)
                values.append((oracle.forward(*pair, 1, 1, norm=2) * dy).sum())
            assert abs((values[0] - values[1]) / (2 * step) - gradient[index]) < 1e-3


def test_zeros_of_the_padding_take_part():
    """A number worked out by hand, so that a mistake shared with the oracle shows."""
    x, w = ms.Tensor(np.full((1, 1, 1, 1), 5.0, np.float32)), ms.Tensor(np.full((1, 1, 3, 3), 2.0, np.float32))
    assert adder2d_function(x, w, 1, 1).asnumpy().item() == -(abs(5 - 2) + 8 * abs(0 - 2))


@pytest.mark.parametrize("scale, offset", [(100.0, 0.0), (1.0, 50.0)])
@backends
def test_large_values_cost_no_accuracy(backend, scale, offset):
    """dw = (sum dy * x) - w * (sum dy) cancels most of its digits where x and w lie far from zero."""
    case = Case(4, 5, 16, 15, 6, 3, 1, 1)
    tensors = numbers(case, scale, offset)
    got = measured(AdderOp(case.stride, case.padding, backend=backend), *tensors)
    assert max(errors(got, expected(case, *tensors))) < TOLERANCE


def plain_sum(x, w):
    """The forward pass of a 3x3 layer with padding 1, summed tap by tap in float32."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = np.zeros((x.shape[0], w.shape[0], *x.shape[2:]), np.float32)
    for c in range(w.shape[1]):
        for i in range(3):
            for j in range(3):
                window = padded[:, None, c, i:i + x.shape[2], j:j + x.shape[3]]
                y -= np.abs(window - w[:, c, i, j, None, None])
    return y


@pytest.mark.parametrize("offset", [0.0, 3.0, 50.0])
@pytest.mark.parametrize("channels, size", [(16, 32), (64, 8)])
def test_sums_of_maxima_are_as_accurate_as_plain_sums(channels, size, offset):
    """At most twice the error, with inputs as they come from ReLU and weights as heavy-tailed as trained ones."""
    random = np.random.default_rng(0)
    x = (np.maximum(random.standard_normal((4, channels, size, size)), 0) + offset).astype(np.float32)
    w = (random.laplace(size=(16, channels, 3, 3)) + offset).astype(np.float32)
    exact = oracle.forward(x, w, 1, 1)
    got = AdderOp(1, 1, backend="kernel")(ms.Tensor(x), ms.Tensor(w)).asnumpy()
    error, plain = (np.sqrt(np.mean((y - exact) ** 2)) for y in (got, plain_sum(x, w)))
    assert error <= 2 * plain


@modes
@backends
def test_layer_with_bias(backend, mode):
    ms.set_context(mode=MODES[mode])
    x, w, dy = numbers(TYPICAL)
    layer = Adder2d(TYPICAL.channels, TYPICAL.filters, 3, TYPICAL.stride, TYPICAL.padding, bias=True, backend=backend)
    layer.adder.set_data(ms.Tensor(w))
    layer.b.set_data(ms.Tensor(np.arange(TYPICAL.filters, dtype=np.float32)))
    y, dx, dw = expected(TYPICAL, x, w, dy)
    got_dx, (got_dw, got_db) = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)(
        layer, layer.trainable_params())(ms.Tensor(x), ms.Tensor(dy))
    got = [tensor.asnumpy() for tensor in (layer(ms.Tensor(x)), got_dx[0], got_dw, got_db)]
    y += np.arange(TYPICAL.filters)[:, None, None]
    assert max(errors(got, (y, dx, dw, dy.sum((0, 2, 3), np.float64)))) < TOLERANCE


@backends
def test_layers_that_differ_in_stride_only(backend):
    """MindSpore remembers the shape of an operator's output by its inputs and attributes."""
    x, w, _ = numbers(Case(1, 2, 6, 6, 3, 1, 1, 0))
    for stride in (1, 2, 3):
        y = AdderOp(stride, 0, backend=backend)(ms.Tensor(x), ms.Tensor(w)).asnumpy()
        assert oracle.relative_error(y, oracle.forward(x, w, stride)) < TOLERANCE


def test_layer_has_no_bias_unless_asked():
    assert {p.name: p.shape for p in Adder2d(3, 4, 5).get_parameters()} == {"adder": (4, 3, 5, 5)}


@pytest.mark.parametrize("eta", [0.7, 0])
@modes
def test_adaptive_rate(mode, eta):
    ms.set_context(mode=MODES[mode])
    tensors = numbers(TYPICAL)
    got = measured(AdderOp(TYPICAL.stride, TYPICAL.padding, eta, "kernel"), *tensors)
    assert max(errors(got, expected(TYPICAL, *tensors, eta))) < TOLERANCE


@pytest.mark.parametrize("size", [0.0, 1e-16])
@modes
def test_adaptive_rate_of_a_tiny_gradient(mode, size):
    """A norm of zero divides nothing, and one below 1e-12 counts as 1e-12."""
    ms.set_context(mode=MODES[mode])
    x, w, dy = numbers(TYPICAL)
    dy *= np.float32(size)
    got = measured(AdderOp(TYPICAL.stride, TYPICAL.padding, backend="kernel"), x, w, dy)
    wanted = expected(TYPICAL, x, w, dy)
    assert max(errors(got, wanted)) < TOLERANCE
    assert size or not np.any(got[1]) and not np.any(got[2])


@pytest.mark.parametrize("name", ["3x3", "no multiples of a register block", "stride 2 over several tiles"])
def test_modes_agree_bit_by_bit(name):
    case = CASES[name]
    op, tensors = AdderOp(case.stride, case.padding, backend="kernel"), numbers(case)
    pynative = measured(op, *tensors)
    ms.set_context(mode=ms.GRAPH_MODE)
    for graph, other in zip(measured(op, *tensors), pynative):
        np.testing.assert_array_equal(graph, other)


@pytest.mark.parametrize("case", [TYPICAL, DEPTHWISE], ids=["dense", "depthwise"])
@backends
def test_special_values_propagate(backend, case):
    """A broken input must not pass for a sound one. What comes of infinity may be NaN: sums of maxima cancel it."""
    x, w, dy = numbers(case)
    x[0, 1, 3, 3], x[1, 0, 2, 2], x[1, 2, 4, 4] = np.nan, np.inf, -np.inf
    y, dx, dw = expected(case, x, w, dy, eta=0)
    got = measured(AdderOp(case.stride, case.padding, 0, backend, group=case.group), x, w, dy)
    assert np.isnan(y).any() and np.isinf(y).any() and np.isnan(dx).any()
    np.testing.assert_allclose(got[0][np.isfinite(y)], y[np.isfinite(y)], rtol=1e-5)
    assert not np.isfinite(got[0][~np.isfinite(y)]).any()
    np.testing.assert_allclose(got[1][np.isfinite(x)], dx[np.isfinite(x)], rtol=1e-5, atol=1e-5)
    slope_of_one = np.isclose(got[1], dx, rtol=1e-5) & np.isinf(x)
    assert (np.isnan(got[1]) | slope_of_one)[~np.isfinite(x)].all() and np.isnan(got[1][np.isnan(x)]).all()
    assert not np.isfinite(got[2][~np.isfinite(dw)]).any()


def test_a_broken_weight_gradient_is_not_rescaled_to_finite_values():
    """A norm that is NaN is no norm of 1e-12."""
    x, w, dy = numbers(TYPICAL)
    x[0, 1, 3, 3] = np.nan
    _, _, dw = measured(AdderOp(TYPICAL.stride, TYPICAL.padding, backend="kernel"), x, w, dy)
    assert np.isnan(dw).all()


@backends
def test_tensors_that_are_not_contiguous(backend):
    x, w, dy = numbers(TYPICAL)
    views = [ms.Tensor(np.ascontiguousarray(array.swapaxes(2, 3))).swapaxes(2, 3) for array in (x, w, dy)]
    assert not any(view.is_contiguous() for view in views)
    op = AdderOp(TYPICAL.stride, TYPICAL.padding, backend=backend)
    got = [tensor.asnumpy() for tensor in (op(*views[:2]), *gradients(op, *views))]
    assert max(errors(got, expected(TYPICAL, x, w, dy))) < TOLERANCE


BAD_SHAPES = {"no images": ((0, 3, 8, 8), (4, 3, 3, 3)), "no channels": ((2, 0, 8, 8), (4, 0, 3, 3)),
              "no filters": ((2, 3, 8, 8), (0, 3, 3, 3)), "no window": ((2, 3, 8, 8), (4, 3, 0, 0)),
              "five axes": ((2, 3, 8, 8), (4, 3, 3, 3, 2)), "three axes": ((3, 8, 8), (4, 3, 3, 3)),
              "channels differ": ((2, 3, 8, 8), (4, 2, 3, 3)), "filters not square": ((2, 3, 8, 8), (4, 3, 3, 2)),
              "window larger than the image": ((2, 3, 2, 8), (4, 3, 3, 3))}


@pytest.mark.parametrize("shapes", BAD_SHAPES.values(), ids=BAD_SHAPES)
@modes
@backends
def test_refuses_shapes_that_do_not_fit(backend, mode, shapes):
    """The kernel would read past the end of w."""
    ms.set_context(mode=MODES[mode])
    x, w = (ms.Tensor(np.zeros(shape, np.float32)) for shape in shapes)
    with pytest.raises(ValueError, match="(?s)adder.*shape"):
        Caller(backend, 1, 0)(x, w)


@pytest.mark.parametrize("w_shape, words", [((4, 6, 3, 3), "the 6 channels .* in each of the 3 groups"),
                                            ((6, 3, 3, 3), "the 3 channels .* in each of the 3 groups"),
                                            ((4, 2, 3, 3), r"filters of shape \(4, 2, 3, 3\) do not come in 3 groups")])
@modes
@backends
def test_refuses_groups_that_do_not_fit(backend, mode, w_shape, words):
    ms.set_context(mode=MODES[mode])
    with pytest.raises(ValueError, match=f"(?s)adder layer: .*{words}"):
        Caller(backend, 1, 0, 3)(ops.ones((2, 6, 8, 8)), ops.ones(w_shape))


@modes
@backends
def test_refuses_what_is_no_tensor(backend, mode):
    ms.set_context(mode=MODES[mode])
    x, w, _ = numbers(TYPICAL)
    for call in (lambda: adder2d_function(x, ms.Tensor(w), backend=backend), lambda: Adder2d(3, 5, 3, backend=backend)(x)):
        with pytest.raises(TypeError, match="adder layer: x must be a tensor of MindSpore"):
            call()


@pytest.mark.parametrize("shape", [[None, 3, 9, 7], [2, 3, None, None], None], ids=str)
@backends
def test_dynamic_shapes(backend, shape):
    """PYNATIVE mode knows each input's shape; a compiled graph does not, and says so."""
    x, w, _ = numbers(TYPICAL)
    net = Caller(backend, 2, 1)
    net.set_inputs(ms.Tensor(shape=shape, dtype=ms.float32), ms.Tensor(w))
    assert oracle.relative_error(net(ms.Tensor(x), ms.Tensor(w)).asnumpy(), oracle.forward(x, w, 2, 1)) < TOLERANCE
    ms.set_context(mode=ms.GRAPH_MODE)
    with pytest.raises(ValueError, match="adder layer: x must have a known shape in GRAPH mode"):
        net(ms.Tensor(x), ms.Tensor(w))


class Caller(nn.Cell):
    """Calls the function from inside a graph."""

    def __init__(self, backend, stride, padding, group=1):
        super().__init__()
        self.backend, self.stride, self.padding, self.group = backend, stride, padding, group

    def construct(self, x, w):
        return adder2d_function(x, w, self.stride, self.padding, backend=self.backend, group=self.group)


@pytest.mark.parametrize("place", ["PYNATIVE", "GRAPH", "jit", "Cell"])
@backends
def test_function_works_everywhere(backend, place):
    """Also where its operation is first made while a graph is being compiled."""
    assert (TYPICAL.stride, TYPICAL.padding) == (2, 1)

    def function(x, w):
        return adder2d_function(x, w, 2, 1, backend=backend)

    ms.set_context(mode=MODES["GRAPH" if place in ("GRAPH", "Cell") else "PYNATIVE"])
    adder._operation.cache_clear()  # pylint: disable=protected-access
    called = {"jit": ms.jit(function), "Cell": Caller(backend, 2, 1)}.get(place, function)
    tensors = numbers(TYPICAL)
    assert max(errors(measured(called, *tensors), expected(TYPICAL, *tensors))) < TOLERANCE


@pytest.mark.parametrize("arguments", [{"stride": 0}, {"stride": -1}, {"stride": 1.5}, {"stride": 2 ** 31}, {"padding": -1},
                                       {"padding": 256}, {"eta": -0.1}, {"eta": float("nan")}, {"eta": float("inf")},
                                       {"backend": "cuda"}, {"norm": 3}, {"norm": True}, {"stride": (1, 2)},
                                       {"stride": [2, 2.5]}, {"stride": ()}, {"stride": "2"}, {"padding": (0, 1)},
                                       {"padding": None}, {"group": 0}, {"group": 1.5}, {"group": (1, 2)}], ids=str)
def test_bad_arguments(arguments):
    x, w, _ = numbers(TYPICAL)
    with pytest.raises(ValueError, match=next(iter(arguments))):
        adder2d_function(ms.Tensor(x), ms.Tensor(w), **arguments)
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Adder2d(3, 4, 3, **arguments)


@pytest.mark.parametrize("arguments", [
    {"kernel_size": 0}, {"kernel_size": 1.5}, {"kernel_size": (3, 1)}, {"kernel_size": True}, {"in_channels": 0},
    {"in_channels": "3"}, {"out_channels": -1}, {"group": 2}, {"group": 6}, {"dilation": 2}, {"dilation": (1, 2)},
    {"pad_mode": "reflect"}, {"padding": 1, "pad_mode": "valid"}, {"pad_mode": "same", "stride": 2},
    {"pad_mode": "same", "kernel_size": 2}], ids=str)
def test_bad_arguments_of_the_layer(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Adder2d(**{"in_channels": 3, "out_channels": 6, "kernel_size": 3, **arguments})


@pytest.mark.parametrize("arguments, geometry", [
    ({"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)}, (3, 2, 1)), ({"padding": (2, 2, 2, 2)}, (3, 1, 2)),
    ({"kernel_size": [5, 5], "stride": [1, 1], "pad_mode": "same"}, (5, 1, 2)), ({"pad_mode": "valid"}, (3, 1, 0)),
    ({"pad_mode": "pad", "padding": 3, "group": 2, "dilation": (1, 1)}, (3, 1, 3))], ids=str)
def test_layer_takes_what_a_convolution_takes(arguments, geometry):
    """Where the two say the same, as many outputs."""
    arguments = {"in_channels": 2, "out_channels": 4, "kernel_size": 3, **arguments}
    layer = Adder2d(**arguments, has_bias=True)
    kernel, stride, padding = geometry
    assert f"2, 4, kernel_size={kernel}, stride={stride}, padding={padding}, bias=True" in repr(layer)
    conv = nn.Conv2d(2, 4, kernel, stride, "pad", padding, group=arguments.get("group", 1))
    x = ops.ones((1, 2, 9, 7), ms.float32)
    assert layer(x).shape == conv(x).shape and layer.adder.shape == conv.weight.shape


def test_choice_of_the_implementation(monkeypatch):
    """auto is the kernel on CPU and the composed form elsewhere, where asking for the kernel is a mistake."""
    geometry = Geometry(1, 1)
    assert isinstance(kernels.operation("forward", "auto", geometry), operations.Kernel)
    assert isinstance(kernels.operation("forward", "composed", geometry), composed.Forward)
    assert kernels.operation("folded", "composed", geometry, relu=True) is None
    monkeypatch.setattr(ms, "get_context", {"device_target": "Ascend"}.get)
    assert isinstance(kernels.operation("forward", "auto", geometry), composed.Forward)
    with pytest.raises(kernels.BuildError, match="CPU or GPU only"):
        kernels.operation("forward", "kernel", geometry)


def limit_blocks(monkeypatch, limit):
    monkeypatch.setattr(composed, "BLOCK_BYTES", limit)
    monkeypatch.setattr(composed, "LARGE_BLOCK_BYTES", limit)


@pytest.mark.parametrize("taps, outputs, limit, blocks", [
    (27, 10, 1 << 20, 1), (27, 10, 27 * 40, 1), (27, 10, 27 * 40 - 1, 3), (27, 10, 40, 27), (27, 10, 1, 27),
    (7, 10, 6 * 40, 7)])
def test_block_count(monkeypatch, taps, outputs, limit, blocks):
    """Equal blocks as large as the limit allows; one tap each where even that is too large."""
    limit_blocks(monkeypatch, limit)
    assert composed.block_count(taps, outputs) == blocks


@pytest.mark.parametrize("case", [TYPICAL, GROUPED], ids=["dense", "grouped"])
@modes
def test_blocks_of_the_composed_form_add_up(monkeypatch, mode, case):
    """Several blocks in the forward pass and in the input gradient, in place of one."""
    ms.set_context(mode=MODES[mode])
    tensors = numbers(case)
    limit_blocks(monkeypatch, 4 * case.filters * 40 * 3)  # 3 taps x filters x N * 5 * 4 positions
    assert composed.block_count(27, case.filters * 40) == 9
    assert composed.block_count(9 * case.filters // case.group, 2 * case.channels * 9 * 7) > 1
    got = measured(AdderOp(case.stride, case.padding, backend="composed", group=case.group), *tensors)
    assert max(errors(got, expected(case, *tensors))) < TOLERANCE


@pytest.mark.parametrize("case", [TYPICAL, GROUPED], ids=["dense", "grouped"])
@pytest.mark.parametrize("blocks", [1, 9])
@pytest.mark.parametrize("backend", ["unrolled", "onnx"])
def test_forms_for_export_match_the_loop(monkeypatch, backend, blocks, case):
    """The network that is exported has to be the one that was trained."""
    monkeypatch.setattr(exported, "BLOCK", 27 // blocks * case.filters * 20)
    assert exported.block_count(27, case.filters * 20) == blocks
    x, w, _ = numbers(case)
    geometry = {"stride": case.stride, "padding": case.padding, "group": case.group}
    loop = AdderOp(**geometry, backend="composed")(ms.Tensor(x), ms.Tensor(w)).asnumpy()
    ms.set_context(mode=ms.GRAPH_MODE)
    got = AdderOp(**geometry, backend=backend)(ms.Tensor(x), ms.Tensor(w)).asnumpy()
    assert oracle.relative_error(got, loop) < 1e-6


def test_results_do_not_depend_on_threads():
    """With the kernel bit by bit, and so also the same in every run; built-in operators make no such promise."""
    one, two, again = (digest_with_threads(n) for n in (1, 2, 2))
    assert one == two == again


def digest_with_threads(threads):
    script = "import test_adder; print('digest', test_adder.digest())"
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True,
                          check=True)
    return next(line for line in done.stdout.splitlines() if line.startswith("digest"))


def digest():
    """Of all results of the kernel, on layers that are large enough for several threads."""
    result = hashlib.sha256()
    for case in (Case(40, 16, 16, 17, 20, 3, 1, 1), Case(9, 8, 64, 64, 24, 3, 2, 1),
                 Case(9, 32, 64, 64, 32, 3, 1, 1, 4), Case(1, 96, 32, 32, 96, 3, 1, 1, 12),
                 Case(64, 32, 32, 32, 32, 3, 1, 1, 32)):
        for array in measured(AdderOp(case.stride, case.padding, backend="kernel", group=case.group), *numbers(case)):
            result.update(array.tobytes())
    return result.hexdigest()
