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
"""Batch norm in the C++ kernel: values, gradients and moving statistics against float64."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import oracle
from src.norm import BatchNorm2d

SHAPES = [(8, 16, 32, 32), (3, 5, 7, 3), (1, 2, 5, 5), (6, 33, 1, 1)]


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [0, 30])
def test_training(shape, mode, offset):
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    x, dy = (random.normal(offset, 2, shape).astype(np.float32) for offset in (offset, 0.5))
    norm = _norm(shape[1], random).set_train()
    gamma, beta = norm.gamma.asnumpy(), norm.beta.asnumpy()
    moving = norm.moving_mean.asnumpy().copy(), norm.moving_variance.asnumpy().copy()  # changed in place

    def product(x):
        y = norm(x)
        return (y * ms.Tensor(dy)).sum(), y

    (_, y), (dx, (dgamma, dbeta)) = ops.value_and_grad(product, 0, norm.trainable_params(), has_aux=True)(ms.Tensor(x))
    wanted = oracle.batch_norm(x, dy, gamma, beta, *moving)
    got = y, dx, dgamma, dbeta, norm.moving_mean, norm.moving_variance
    for one, other in zip(got, wanted):
        assert oracle.relative_error(one.asnumpy(), other) < (1e-5 if offset == 0 else 1e-4)


def test_as_accurate_as_mindspore():
    random = np.random.default_rng(0)
    x = random.normal(100, 1, (32, 4, 16, 16)).astype(np.float32)
    wanted = oracle.batch_norm(x, x, np.ones(4), np.zeros(4), np.zeros(4), np.ones(4))[0]
    errors = [oracle.relative_error(norm.set_train()(ms.Tensor(x)).asnumpy(), wanted)
              for norm in (BatchNorm2d(4, "kernel"), nn.BatchNorm2d(4))]
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
    ours, theirs = BatchNorm2d(7, "kernel"), nn.BatchNorm2d(7)
    assert ([(name, value.shape) for name, value in ours.parameters_dict().items()] ==
            [(name, value.shape) for name, value in theirs.parameters_dict().items()])
    assert ours.eps == theirs.eps and ours.momentum == theirs.momentum


def _norm(channels, random):
    norm = BatchNorm2d(channels, "kernel")
    for parameter in norm.get_parameters():
        parameter.set_data(ms.Tensor(random.uniform(0.5, 2, channels).astype(np.float32)))
    return norm
