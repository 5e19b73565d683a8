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
"""Norms, shortcuts and ReLU folded into the layers before them: the same numbers as with operators of their own."""
import mindspore as ms
import numpy as np
import pytest

import oracle
from src.folding import fold
from src.kernels import cpu
from src.res20_adder import resnet20

SHAPES = [((2, 3, 7, 7), (5, 3, 3, 3), 1, 1), ((3, 5, 9, 8), (17, 5, 3, 3), 2, 1),
          ((1, 16, 8, 8), (32, 16, 1, 1), 2, 0)]


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("x_shape, w_shape, stride, padding", SHAPES)
def test_folded_layer(x_shape, w_shape, stride, padding, shortcut, relu, norm):
    random = np.random.default_rng(0)
    x, w = (random.standard_normal(shape).astype(np.float32) for shape in (x_shape, w_shape))
    y = oracle.forward(x, w, stride, padding, norm)
    scale = random.normal(0, 0.1, w_shape[0]).astype(np.float32)  # a norm's gamma may be negative
    shift = random.standard_normal(w_shape[0]).astype(np.float32)
    residual = random.standard_normal(y.shape).astype(np.float32)
    wanted = scale[:, None, None] * y + shift[:, None, None] + (residual if shortcut else 0)
    wanted = np.maximum(wanted, 0) if relu else wanted
    inputs = [ms.Tensor(value) for value in ([x, w, scale, shift] + [residual] * shortcut)]
    got = cpu.folded(stride, padding, norm, relu)(*inputs).asnumpy()
    assert oracle.relative_error(got, wanted) < 1e-5
    assert not relu or 0.1 < (got == 0).mean() < 0.9


@pytest.mark.parametrize("layer, mode", [("l1", ms.GRAPH_MODE), ("l1", ms.PYNATIVE_MODE), ("l2", ms.GRAPH_MODE)])
def test_folded_network(mode, layer):
    """Statistics and logits after some training batches; the network itself stays as it was."""
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    net = resnet20(10, backend="kernel", layer=layer).set_train()
    for _ in range(3):
        net(ms.Tensor(random.standard_normal((16, 3, 32, 32)).astype(np.float32)))
    images = ms.Tensor(random.standard_normal((9, 3, 32, 32)).astype(np.float32))
    folded = fold(net, "kernel")(images).asnumpy()
    logits = net.set_train(False)(images).asnumpy()
    assert np.abs(logits).max() > 0.1 and oracle.relative_error(folded, logits) < 1e-5


def test_composed_networks_stay_as_they_are():
    net = resnet20(10, backend="composed").set_train()
    assert fold(net, "composed") is net and not net.training


def test_networks_without_adder_layers_stay_as_they_are():
    net = resnet20(10, layer="conv").set_train()
    assert fold(net, "auto") is net and not net.training
