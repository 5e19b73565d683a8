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
"""Batch norm, shortcut and ReLU in the C++ kernel: values, gradients and moving statistics against float64."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import oracle
from src.norm import BatchNormAct2d

SHAPES = [(8, 16, 32, 32), (3, 5, 7, 3), (1, 2, 5, 5), (6, 33, 1, 1)]


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize("relu, shortcut", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape, offset", [(shape, offset) for shape in SHAPES for offset in (0, 30)])
def test_training(shape, offset, relu, shortcut, mode):
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    x, dy = (random.normal(centre, 2, shape).astype(np.float32) for centre in (offset, 0.5))
    added = [random.normal(-1, 1, shape).astype(np.float32)] * shortcut
    norm = _norm(shape[1], random, relu, shortcut).set_train()
    gamma, beta = norm.gamma.asnumpy(), norm.beta.asnumpy()
    moving = norm.moving_mean.asnumpy().copy(), norm.moving_variance.asnumpy().copy()  # changed in place
    y, *gradients = _gradients(norm, dy, x, *added)

    passed = np.where(y > 0, dy, 0) if relu else dy  # where float64 has the other sign, float32 is not to blame
    normal, *wanted = oracle.batch_norm(x, passed, gamma, beta, *moving)
    wanted_y = normal + sum(added)
    got = [y, *gradients[:3], norm.moving_mean.asnumpy(), norm.moving_variance.asnumpy(), *gradients[3:]]
    for one, other in zip(got, [np.maximum(wanted_y, 0) if relu else wanted_y, *wanted] + [passed] * shortcut):
        assert oracle.relative_error(one, other) < (1e-5 if offset == 0 else 1e-4)
    assert not relu or shape[1] < 16 or 0.1 < (y == 0).mean() < 0.9


@pytest.mark.parametrize("relu, shortcut", [(True, False), (True, True)])
def test_one_pass_gives_the_bits_of_three_operators(relu, shortcut):
    """So that runs of before go on as they would have."""
    random = np.random.default_rng(1)
    x, dy, *added = random.standard_normal((2 + shortcut, 5, 7, 9, 11)).astype(np.float32)
    fused, plain = (_norm(7, np.random.default_rng(2), *last).set_train() for last in ((relu, shortcut), (False, False)))

    class Separate(nn.Cell):
        """The same by operators of their own."""

        def __init__(self):
            super().__init__()
            self.norm = plain

        def construct(self, x, *shortcut):
            y = self.norm(x)
            for value in shortcut:
                y = y + value
            return ops.relu(y)

        def trainable_params(self):
            return self.norm.trainable_params()

    for one, other in zip(_gradients(fused, dy, x, *added), _gradients(Separate(), dy, x, *added)):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(fused.moving_variance.asnumpy(), plain.moving_variance.asnumpy())


def _gradients(norm, dy, x, *shortcut):
    """y, dx, dgamma and dbeta, and the shortcut's gradient if there is one."""
    def product(*inputs):
        y = norm(*inputs)
        return (y * ms.Tensor(dy)).sum(), y

    inputs = [ms.Tensor(value) for value in (x, *shortcut)]
    positions = (0, 1) if shortcut else 0
    (_, y), (by_input, by_parameter) = ops.value_and_grad(product, positions, norm.trainable_params(), has_aux=True)(
        *inputs)
    dx, *more = by_input if shortcut else (by_input,)
    return [value.asnumpy() for value in (y, dx, *by_parameter, *more)]


def test_as_accurate_as_mindspore():
    random = np.random.default_rng(0)
    x = random.normal(100, 1, (32, 4, 16, 16)).astype(np.float32)
    wanted = oracle.batch_norm(x, x, np.ones(4), np.zeros(4), np.zeros(4), np.ones(4))[0]
    errors = [oracle.relative_error(norm.set_train()(ms.Tensor(x)).asnumpy(), wanted)
              for norm in (BatchNormAct2d(4, relu=False, backend="kernel"), nn.BatchNorm2d(4))]
    assert errors[0] < 2 * errors[1] + 1e-6


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_evaluation_uses_the_moving_statistics(mode):
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    norm = _norm(3, random).set_train(False)
    x = random.standard_normal((2, 3, 4, 4)).astype(np.float32)
    before = norm.moving_mean.asnumpy().copy(), norm.moving_variance.asnumpy().copy()
    scale = norm.gamma.asnumpy() / np.sqrt(before[1] + oracle.EPSILON)
    wanted = (x - before[0][:, None, None]) * scale[:, None, None] + norm.beta.asnumpy()[:, None, None]
    assert oracle.relative_error(norm(ms.Tensor(x)).asnumpy(), wanted) < 1e-5
    assert np.array_equal(before, (norm.moving_mean.asnumpy(), norm.moving_variance.asnumpy()))


def test_same_parameters_as_mindspore():
    ours, theirs = BatchNormAct2d(7, backend="kernel"), nn.BatchNorm2d(7)
    assert ([(name, value.shape) for name, value in ours.parameters_dict().items()] ==
            [(name, value.shape) for name, value in theirs.parameters_dict().items()])
    assert ours.eps == theirs.eps and ours.momentum == theirs.momentum


def _norm(channels, random, relu=False, shortcut=False):
    norm = BatchNormAct2d(channels, relu, shortcut, "kernel")
    for parameter in norm.get_parameters():
        parameter.set_data(ms.Tensor(random.uniform(0.5, 2, channels).astype(np.float32)))
    return norm


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize("backend", ["kernel", "composed"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("x, shortcut, words", [
    ((2, 4, 3, 3), (2, 4, 3, 3), "x must be of shape"), ((2, 8, 3, 3), (2, 8, 1, 1), "the shortcut must be of shape"),
    ((2, 8), (2, 8), "x must be of shape"), ((2, 8, 3, 3, 1), (2, 8, 3, 3, 1), "x must be of shape"),
    ((2, 8, 3, 3), (2, 8, 3), "the shortcut must be of shape")])
def test_other_shapes_are_refused(x, shortcut, words, training, backend, mode):
    """The kernel would read past their ends."""
    ms.set_context(mode=mode)
    norm = BatchNormAct2d(8, shortcut=True, backend=backend).set_train(training)
    with pytest.raises(ValueError, match=f"batch norm: {words}"):
        norm(ms.ops.ones(x, ms.float32), ms.ops.ones(shortcut, ms.float32)).asnumpy()


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_what_is_no_tensor_is_refused(mode):
    ms.set_context(mode=mode)
    with pytest.raises(TypeError, match="batch norm: x must be a tensor of MindSpore"):
        BatchNormAct2d(8)(np.ones((2, 8, 3, 3), np.float32))
